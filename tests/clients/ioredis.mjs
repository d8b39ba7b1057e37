// ioredis, with RESP2 or RESP3: node ioredis.mjs PORT direct|proxy ioredis|ioredis5 2|3
import { big, end, more, port, quietly, refused, step } from './transcript.mjs';

const [name, resp] = more;
const { Redis } = await import(name);

function connection(options) {
    return new Redis({ host: '127.0.0.1', port, protocol: Number(resp), connectionName: 'app', retryStrategy: null,
        maxRetriesPerRequest: 0, ...options }).on('error', quietly);
}

const client = connection();            // asks INFO until the server is not loading
await step('ready', () => new Promise((done, fail) => {
    client.once('ready', () => done(client.status));
    client.once('end', () => fail(new Error('the connection was lost')));
}));
await step('protocol', () => client.condition?.protocol ?? 2);
await step('ping', () => client.ping());
await step('echo', () => client.echo('hello'));
await step('select', () => client.select(0));
await step('name', () => client.client('GETNAME'));
await step('info', async () => /^redis_version:\d/m.test(await client.info()));

// strings, counters, expiry
await step('set', () => client.set('alive', 'yes'));
await step('get', () => client.get('alive'));
await step('get none', () => client.get('none'));
await step('set nx', () => client.set('alive', 'no', 'NX'));
await step('set ex get', () => client.set('alive', 'yes', 'EX', 1000, 'GET'));
await step('ttl', async () => (await client.ttl('alive')) > 900);
await step('persist', () => client.persist('alive'));
await step('incr', () => client.incrby('counter', 41));
await step('incrbyfloat', () => client.incrbyfloat('counter', 0.5));
await step('getdel', () => client.getdel('counter'));

// collections
await step('hset', () => client.hset('hash', { a: '1', b: '2' }));
await step('hgetall', () => client.hgetall('hash'));
await step('hmget', () => client.hmget('hash', 'b', 'none'));
await step('hscan', () => client.hscan('hash', 0));
await step('rpush', () => client.rpush('list', 'a', 'b', 'c'));
await step('lrange', () => client.lrange('list', 0, -1));
await step('sadd', () => client.sadd('set', 'x', 'y'));
await step('smembers', async () => (await client.smembers('set')).sort());
await step('zadd', () => client.zadd('zset', 1.5, 'a', 2, 'b'));
await step('zrange', () => client.zrange('zset', 0, -1, 'WITHSCORES'));
await step('zscore', () => client.zscore('zset', 'a'));
await step('zpopmin', () => client.zpopmin('zset'));
await step('geo', async () => [await client.geoadd('geo', 13.4, 52.5, 'b'), await client.geopos('geo', 'b', 'none')]);

// streams
await step('xadd', () => client.xadd('stream', '1-1', 'field', 'value'));
await step('xrange', () => client.xrange('stream', '-', '+'));
await step('xread', () => client.xread('STREAMS', 'stream', '0'));
await step('xgroup', () => client.xgroup('CREATE', 'stream', 'group', '0'));
await step('xreadgroup', () => client.xreadgroup('GROUP', 'group', 'me', 'COUNT', 1, 'STREAMS', 'stream', '>'));
await step('xack', () => client.xack('stream', 'group', '1-1'));
await step('xinfo', () => client.xinfo('GROUPS', 'stream'));

// scripts: EVALSHA, and EVAL if the server says NOSCRIPT
await step('eval', () => client.eval('return {KEYS[1], ARGV[1], 7}', 1, 'k', 'v'));
await step('evalsha of none', () => client.evalsha('0'.repeat(40), 1, 'k'));
client.defineCommand('shout', { numberOfKeys: 1, lua: 'return redis.call("GET", KEYS[1]) .. ARGV[1]' });
await step('a command of ours', () => client.shout('alive', '!'));
await step('the same on other keys', async () => {
    const got = [];                     // one after the other: see many_scripts.mjs
    for (let i = 0; i < 20; i++) got.push(await client.set(`s${i}`, i), await client.shout(`s${i}`, '?'));
    return got;
});
await step('and at once', () => Promise.all(Array.from({ length: 20 }, (_, i) => client.shout(`s${i}`, '?'))));
await step('the same in a pipeline', () => client.pipeline().shout('alive', '1').set('x', 'y').shout('x', '2').exec());
const sha = await step('script load', () => client.script('LOAD', 'return ARGV[1]'));
await step('evalsha', () => Promise.all(['k1', 'k2', 'k3', 'k4'].map((k) => client.evalsha(sha, 1, k, k))));
await step('script exists', () => client.script('EXISTS', sha, '0'.repeat(40)));

// pipelines, many keys
const keys = Array.from({ length: 200 }, (_, i) => `${i}:key`);
await step('pipeline', () => keys.reduce((p, k) => p.set(k, `value of ${k}`), client.pipeline()).exec());
await step('pipeline of many kinds', () =>
    client.pipeline([['get', keys[0]], ['incr', 'n'], ['lrange', 'list', 0, -1]]).exec());
await step('mget', () => client.mget([...keys, 'none']));
await step('mset', () => client.mset(new Map(keys.map((k) => [k, k]))));
await step('auto pipelining', async () => {
    const many = connection({ enableAutoPipelining: true });
    const got = await Promise.all(keys.map((k) => many.get(k)));
    many.disconnect();
    return got;
});
await step('scan', async () => {
    const all = [];
    for await (const some of client.scanStream({ count: 17 })) all.push(...some);
    return [...new Set(all)].sort();
});
await step('scan match', async () => {
    const all = [];
    for await (const some of client.scanStream({ match: '1*:key' })) all.push(...some);
    return [...new Set(all)].sort();
});
await step('keys', async () => (await client.keys('*')).sort());
await step('dbsize', () => client.dbsize());
await step('del', () => client.del(...keys, 'none'));
await step('dbsize less', () => client.dbsize());

// sizes and bytes
await step('1 MiB', () => client.set('big', big(1 << 20)));
await step('1 MiB back', () => client.getBuffer('big'));
await step('binary', () => client.set(Buffer.from([0, 13, 10, 255]), Buffer.from([0, 13, 10, 254])));
await step('binary back', () => client.getBuffer(Buffer.from([0, 13, 10, 255])));

// errors
await step('wrongtype', () => client.incr('list'));
await step('wrong arity', () => client.call('GET'));
await step('unknown', () => client.call('NOSUCHCOMMAND', 'x'));
await step('not an integer', () => client.incr('alive'));
await step('errors of a pipeline', () => client.pipeline().incr('list').get('alive').exec());

// refused by design, for now
const alive = () => client.get('alive');
await refused('transaction', () => client.multi().set('t', '1').get('t').exec(), alive);
await refused('transaction, step by step', () => client.multi({ pipeline: false }), alive);
await refused('blpop', () => client.blpop('empty list', 1), alive);
await refused('xread block', () => client.xread('BLOCK', 1, 'STREAMS', 'stream', '$'), alive);
const listener = connection();          // a connection of its own, as this library wants
await refused('subscribe', () => listener.subscribe('channel'), alive);
listener.disconnect();

await step('a second connection', async () => {
    const second = connection({ lazyConnect: true });
    await second.connect();
    return [await second.get('alive'), await second.quit()];
});
await step('quit', () => client.quit());
end();
