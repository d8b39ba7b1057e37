// node-redis and ioredis with a password: right, wrong and none.
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { end, port, quietly, step } from './transcript.mjs';

// The proxy's words for a wrong password are twemproxy's, and a server's before 6: that it is told must do.
const login = (name, work) => step(name, () => work().catch((e) => {
    if (/WRONGPASS|invalid password|NOAUTH/.test(e.message)) return 'no entry';
    throw e;
}));

for (const RESP of [2, 3]) {
    for (const [how, secret] of [['password', { password: 'sesame' }], ['name and password', { username: 'default',
        password: 'sesame' }], ['wrong password', { password: 'wrong' }], ['no password', {}]]) {
        await login(`node-redis, RESP${RESP}, ${how}`, async () => {
            const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false }, RESP,
                name: 'app', ...secret }).on('error', quietly);
            await client.connect();
            const got = [await client.set('k', how), await client.get('k'), await client.clientGetName()];
            client.destroy();
            return got;
        });
        await login(`ioredis, RESP${RESP}, ${how}`, async () => {
            const client = new Redis({ host: '127.0.0.1', port, protocol: RESP, lazyConnect: true, retryStrategy: null,
                connectionName: 'app', maxRetriesPerRequest: 0, ...secret }).on('error', quietly);
            await client.connect();
            return [await client.set('k', how), await client.get('k'), await client.quit()];
        });
    }
}
end();
