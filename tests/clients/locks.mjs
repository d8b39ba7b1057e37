// redlock over ioredis: a lock that is a script on one key.
import { Redis } from 'ioredis';
import Redlock from 'redlock';
import { end, port, quietly, step } from './transcript.mjs';

const client = new Redis({ host: '127.0.0.1', port, retryStrategy: null }).on('error', quietly);
const locker = new Redlock([client], { retryCount: 0 });
const patient = new Redlock([client], { retryCount: 200, retryDelay: 10, retryJitter: 5 });
for (const locks of [locker, patient]) locks.on('clientError', quietly);

await step('lock', () => locker.lock('locks:a', 5000).then((l) => [l.resource, l.attempts]));
await step('held', () => locker.lock('locks:a', 5000));
await step('its key', async () => (await client.pttl('locks:a')) > 1000);
await client.del('locks:a');
await step('extend and unlock', async () => {
    const held = await locker.lock('locks:b', 5000);
    const longer = await held.extend(60000);
    const left = await client.pttl('locks:b');
    await longer.unlock();
    return [left > 50000, await client.get('locks:b')];
});
await step('unlock twice', async () => {
    const held = await locker.lock('locks:c', 5000);
    await held.unlock();
    return held.unlock();
});
await step('one after the other', async () => {
    let inside = 0, most = 0;
    await Promise.all(Array.from({ length: 8 }, async () => {
        const held = await patient.lock('locks:d', 5000);
        most = Math.max(most, ++inside);
        await new Promise((done) => setTimeout(done, 3));
        inside--;
        await held.unlock();
    }));
    return [most, inside];
});
await step('many resources', () => Promise.all(Array.from({ length: 30 }, (_, i) =>
    locker.lock(`locks:${i}`, 5000).then((l) => l.unlock()))).then((all) => all.length));
end();
