// rate-limiter-flexible over ioredis and node-redis, and bottleneck over ioredis: all is done by scripts.
import Bottleneck from 'bottleneck';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import limiters from 'rate-limiter-flexible';
import { end, port, quietly, refused, step } from './transcript.mjs';

const { RateLimiterRedis, RateLimiterUnion } = limiters;
const io = new Redis({ host: '127.0.0.1', port, retryStrategy: null }).on('error', quietly);
const node = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false } }).on('error', quietly);
await step('connect', async () => { await node.connect(); return node.isReady; });

for (const [name, storeClient] of [['ioredis', io], ['node-redis', node]]) {
    const useRedisPackage = name === 'node-redis';
    const limiter = new RateLimiterRedis({ storeClient, keyPrefix: name, points: 3, duration: 100, useRedisPackage });
    const consume = (who) => limiter.consume(who).then((r) => `${r.remainingPoints} left`,
        (r) => (r instanceof Error ? r : `no more, ${r.msBeforeNext > 1000}`));
    await step(`${name}: three of five`, async () => {
        const got = [];
        for (let i = 0; i < 5; i++) got.push(await consume('x'));
        return got;
    });
    await step(`${name}: one after the other`, async () => {
        const got = [];                 // see many_scripts.mjs
        for (let i = 0; i < 20; i++) got.push(await consume(`user ${i}`));
        return got;
    });
    await step(`${name}: many at once`, () => Promise.all(Array.from({ length: 50 }, (_, i) => consume(`user ${i}`))));
    await step(`${name}: penalty`, async () => (await limiter.penalty('user 1', 2)).consumedPoints);
    await step(`${name}: reward`, async () => (await limiter.reward('user 1', 1)).consumedPoints);
    await step(`${name}: delete`, async () => [await limiter.delete('x'), await consume('x')]);
    // These are transactions with ioredis, and pipelines with node-redis.
    const other = useRedisPackage ? step : refused;
    await other(`${name}: get`, async () => (await limiter.get('x')).consumedPoints, () => consume('x'));
    await other(`${name}: block`, async () => (await limiter.block('x', 50)).consumedPoints, () => consume('x'));
    const union = new RateLimiterUnion(limiter, new RateLimiterRedis({ storeClient, keyPrefix: 'u', points: 2,
        duration: 9, useRedisPackage }));
    await step(`${name}: union`, async () => Object.keys(await union.consume('z')).sort());
}

// Its scripts have several keys: an id in {} keeps them on one server (with hash_tag = {}).
const limiter = new Bottleneck({ id: '{app}', datastore: 'ioredis', clearDatastore: true, minTime: 5, Redis,
    reservoir: 100, clientOptions: { host: '127.0.0.1', port, retryStrategy: null } });
limiter.on('error', quietly);
await step('bottleneck: ready', async () => Boolean(await limiter.ready()));
await step('bottleneck: jobs', () => Promise.all(Array.from({ length: 10 }, (_, i) =>
    limiter.schedule(async () => i * i))));
await step('bottleneck: reservoir', () => limiter.currentReservoir());
await step('bottleneck: done', () => limiter.done());
// Who waits for others to end (maxConcurrent) is told so by a message, which cannot come for now: it waits for ever.
await refused('bottleneck: messages', () => limiter.connection.subscriber.subscribe('b_channel'),
    () => limiter.running());
await limiter.disconnect(false);
end();
