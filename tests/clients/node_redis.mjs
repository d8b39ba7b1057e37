// node-redis, with RESP2 or RESP3: node node_redis.mjs PORT direct|proxy redis|redis5 2|3
import { big, end, more, port, quietly, refused, step } from './transcript.mjs';

const [name, resp] = more;
const { createClient, createClientPool, defineScript } = await import(name);
const shout = defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: 'return redis.call("GET", KEYS[1]) .. ARGV[1]',
    parseCommand(parser, key, word) { parser.pushKey(key); parser.push(word); },
    transformReply: undefined,
});
const options = { socket: { host: '127.0.0.1', port, reconnectStrategy: false }, RESP: Number(resp), name: 'app' };

function connection() {
    return createClient({ ...options, scripts: { shout } }).on('error', quietly);
}

const client = connection();
await step('connect', async () => { await client.connect(); return client.isReady; });
const bytes = client.withTypeMapping({ 36: Buffer });           // what begins with '$' comes as a Buffer
await step('ping', () => client.ping());
await step('echo', () => client.echo('hello'));
await step('select', () => client.select(0));
await step('name', () => client.clientGetName());
await step('info', async () => /^redis_version:\d/m.test(await client.info()));

// strings, counters, expiry
await step('set', () => client.set('alive', 'yes'));
await step('get', () => client.get('alive'));
await step('get none', () => client.get('none'));
await step('set nx', () => client.set('alive', 'no', { NX: true }));
await step('set ex get', () => client.set('alive', 'yes', { EX: 1000, GET: true }));
await step('ttl', async () => (await client.ttl('alive')) > 900);
await step('persist', () => client.persist('alive'));
await step('incr', () => client.incrBy('counter', 41));
await step('incrbyfloat', () => client.incrByFloat('counter', 0.5));
await step('expire', () => client.expire('counter', 100));
await step('getdel', () => client.getDel('counter'));
await step('append', () => client.append('alive', '!'));
await step('getrange', () => client.getRange('alive', 0, 1));
await step('set back', () => client.set('alive', 'yes'));

// collections
await step('hset', () => client.hSet('hash', { a: '1', b: '2' }));
await step('hgetall', () => client.hGetAll('hash'));
await step('hmget', () => client.hmGet('hash', ['b', 'none']));
await step('hincrby', () => client.hIncrBy('hash', 'a', 4));
await step('hscan', () => client.hScan('hash', '0'));
await step('hgetall none', () => client.hGetAll('no hash'));
await step('rpush', () => client.rPush('list', ['a', 'b', 'c']));
await step('lrange', () => client.lRange('list', 0, -1));
await step('lpop', () => client.lPop('list'));
await step('sadd', () => client.sAdd('set', ['x', 'y']));
await step('smembers', async () => [...await client.sMembers('set')].sort());
await step('sismember', () => client.sIsMember('set', 'x'));
await step('zadd', () => client.zAdd('zset', [{ score: 1.5, value: 'a' }, { score: 2, value: 'b' }]));
await step('zrange', () => client.zRangeWithScores('zset', 0, -1));
await step('zscore', () => client.zScore('zset', 'a'));
await step('zscore none', () => client.zScore('zset', 'none'));
await step('zpopmin', () => client.zPopMin('zset'));

// streams
await step('xadd', () => client.xAdd('stream', '1-1', { field: 'value' }));
await step('xadd 2', () => client.xAdd('stream', '2-1', { field: 'more' }));
await step('xrange', () => client.xRange('stream', '-', '+'));
await step('xread', () => client.xRead({ key: 'stream', id: '1-1' }));
await step('xgroup', () => client.xGroupCreate('stream', 'group', '0'));
await step('xreadgroup', () => client.xReadGroup('group', 'me', { key: 'stream', id: '>' }, { COUNT: 1 }));
await step('xack', () => client.xAck('stream', 'group', '1-1'));
await step('xpending', () => client.xPending('stream', 'group'));
await step('xinfo', () => client.xInfoGroups('stream'));

// scripts
await step('eval', () => client.eval('return {KEYS[1], ARGV[1], 7}', { keys: ['k'], arguments: ['v'] }));
await step('evalsha of none', () => client.evalSha('0'.repeat(40), { keys: ['k'] }));
await step('script object', () => client.shout('alive', '!'));
await step('script object again', () => client.shout('alive', '?'));
const sha = await step('script load', () => client.scriptLoad('return ARGV[1]'));
await step('evalsha', async () => [await client.evalSha(sha, { keys: ['k1'], arguments: ['a'] }),
    await client.evalSha(sha, { keys: ['k2'], arguments: ['b'] })]);
await step('script exists', () => client.scriptExists([sha, '0'.repeat(40)]));

// pipelines, many keys
const keys = Array.from({ length: 200 }, (_, i) => `${i}:key`);
await step('many at once', () => Promise.all(keys.map((k) => client.set(k, `value of ${k}`))));
await step('pipeline', () => client.multi().get(keys[0]).incr('n').lRange('list', 0, -1).execAsPipeline());
await step('mget', () => client.mGet([...keys, 'none']));
await step('mset', () => client.mSet(keys.map((k) => [k, k])));
await step('exists', () => client.exists([...keys, 'none']));
await step('scan', async () => {
    const all = [];
    for await (const some of client.scanIterator({ COUNT: 17 })) all.push(...some);
    return [...new Set(all)].sort();
});
await step('scan match', async () => {
    const all = [];
    for await (const some of client.scanIterator({ MATCH: '1*:key', TYPE: 'string' })) all.push(...some);
    return [...new Set(all)].sort();
});
await step('keys', async () => (await client.keys('*')).sort());
await step('dbsize', () => client.dbSize());
await step('del', () => client.del([...keys, 'none']));
await step('dbsize less', () => client.dbSize());

// sizes and bytes
await step('1 MiB', () => client.set('big', big(1 << 20)));
await step('1 MiB back', () => bytes.get('big'));
await step('binary', () => client.set(Buffer.from([0, 13, 10, 255]), Buffer.from([0, 13, 10, 254])));
await step('binary back', () => bytes.get(Buffer.from([0, 13, 10, 255])));

// errors
await step('wrongtype', () => client.incr('list'));
await step('wrong arity', () => client.sendCommand(['GET']));
await step('unknown', () => client.sendCommand(['NOSUCHCOMMAND', 'x']));
await step('not an integer', () => client.incr('alive'));
await step('errors of a pipeline', () => client.multi().incr('list').get('alive').execAsPipeline());

// refused by design, for now
const alive = () => client.get('alive');
await refused('transaction', () => client.multi().set('t', '1').get('t').exec(), alive);
await refused('watch', () => client.watch('alive'), alive);
await refused('blpop', () => client.blPop('empty list', 1), alive);
await refused('xread block', () => client.sendCommand(['XREAD', 'BLOCK', '1', 'STREAMS', 'stream', '$']), alive);
const listener = connection();          // a connection of its own, as this library wants
await listener.connect();
await refused('subscribe', () => listener.subscribe('channel', () => {}), () => client.get('alive'));
listener.destroy();
if (resp === '3') {                     // it wants to be told of every key that changes
    await refused('client side caching', () =>
        createClient({ ...options, clientSideCache: { ttl: 0, maxEntries: 0 } }).on('error', quietly).connect(), alive);
}

await step('a pool of connections', async () => {
    const pool = await createClientPool(options, { minimum: 1, maximum: 4 }).on('error', quietly).connect();
    const got = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.set(`p${i}`, `${i}`)
        .then(() => pool.get(`p${i}`))));
    pool.destroy();
    return got;
});
await step('a second connection', async () => {
    const second = await connection().connect();
    return [await second.get('alive'), await second.close()];
});
await step('close', () => client.close());
end();
