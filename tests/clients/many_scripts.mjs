// ioredis: a script that no server knows yet, on many keys at once.  It sends EVAL for the first and EVALSHA for
// those behind it, for it takes the connection to be one server; what says NOSCRIPT it sends once more, again as
// EVAL for the first and EVALSHA for the others, and what says NOSCRIPT then fails.
import { Redis } from 'ioredis';
import limiters from 'rate-limiter-flexible';
import { end, port, quietly, step } from './transcript.mjs';

const client = new Redis({ host: '127.0.0.1', port, retryStrategy: null }).on('error', quietly);
client.defineCommand('append2', { numberOfKeys: 1, lua: 'return redis.call("APPEND", KEYS[1], ARGV[1] .. ARGV[1])' });
await step('ping', () => client.ping());
const keys = Array.from({ length: 50 }, (_, i) => `key ${i}`);
await step('a command of ours', () => Promise.all(keys.map((k) => client.append2(k, 'x'))));
await step('all were carried out', () => client.mget(keys));
const limiter = new limiters.RateLimiterRedis({ storeClient: client, points: 3, duration: 100 });
await step('a limiter', () => Promise.all(Array.from({ length: 50 }, (_, i) =>
    limiter.consume(`user ${i}`).then((r) => r.remainingPoints))));
end();
