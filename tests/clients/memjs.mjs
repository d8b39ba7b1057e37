// memjs speaks the binary protocol only: through the proxy it is refused, and in time.
import memjs from 'memjs';
import { end, port, refused, step, through, tell } from './transcript.mjs';

const client = memjs.Client.create(`127.0.0.1:${port}`, { retries: 0, timeout: 5, conntimeout: 5,
    logger: { log() {} } });
if (through) tell('works with a server', '[true,"v"]');
else await step('works with a server', async () => [await client.set('k', 'v', {}),
    String((await client.get('k')).value)]);
// It says no more than that the connection was lost.
await refused('set', () => client.set('k', 'v', {}), null, /./);
await refused('get', () => client.get('k'), null, /./);
client.close();
end();
