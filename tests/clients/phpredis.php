<?php
// phpredis, the extension, as Debian has it.
require __DIR__ . '/transcript.php';

$client = new Redis();
// What it makes of an error: false, and the text for who asks; as an exception only if it must be one.
function last($call)
{
    return function () use ($call) {
        global $client;
        $client->clearLastError();
        $value = $call();
        return $client->getLastError() === null ? $value :
            [$value, first($client->getLastError())];
    };
}

$client->connect('127.0.0.1', $port, 8, null, 0, 8);
$alive = fn() => $client->get('alive');
$text = function () use ($client) {
    $said = $client->getLastError();
    $client->clearLastError();
    return $said;
};
$keys = array_map(fn($i) => "$i:key", range(0, 199));

step('ping', fn() => $client->ping());
step('echo', fn() => $client->echo('hello'));
step('select', fn() => $client->select(0));
step('setname', fn() => $client->client('setname', 'app'));
step('getname', fn() => $client->client('getname'));
step('info', fn() => isset($client->info()['redis_version']));

// strings, counters, expiry
step('set', fn() => $client->set('alive', 'yes'));
step('get', $alive);
step('get none', fn() => $client->get('none'));
step('set nx', fn() => $client->set('alive', 'no', ['nx', 'ex' => 10]));
step('setex', fn() => $client->setex('short', 1000, 'v'));
step('ttl', fn() => $client->ttl('short') > 900);
step('incr', fn() => $client->incrBy('counter', 41));
step('incrbyfloat', fn() => $client->incrByFloat('counter', 0.5));
step('del', fn() => $client->del('short', 'counter'));

// collections
step('hset', fn() => $client->hMSet('hash', ['a' => '1', 'b' => '2']));
step('hgetall', fn() => $client->hGetAll('hash'));
step('hmget', fn() => $client->hMGet('hash', ['b', 'none']));
step('hscan', function () use ($client) {
    $it = null;
    return $client->hScan('hash', $it);
});
step('rpush', fn() => $client->rPush('list', 'a', 'b', 'c'));
step('lrange', fn() => $client->lRange('list', 0, -1));
step('sadd', fn() => $client->sAdd('set', 'x', 'y'));
step('smembers', fn() => sorted($client->sMembers('set')));
step('zadd', fn() => $client->zAdd('zset', 1.5, 'a', 2, 'b'));
step('zrange', fn() => $client->zRange('zset', 0, -1, true));

// streams
step('xadd', fn() => $client->xAdd('stream', '1-1', ['field' => 'value']));
step('xrange', fn() => $client->xRange('stream', '-', '+'));
step('xread', fn() => $client->xRead(['stream' => '0']));
step('xgroup', fn() => $client->xGroup('CREATE', 'stream', 'group', '0'));
step('xreadgroup', fn() => $client->xReadGroup('group', 'me', ['stream' => '>'], 1));
step('xack', fn() => $client->xAck('stream', 'group', ['1-1']));

// scripts
step('eval', fn() => $client->eval('return {KEYS[1], ARGV[1], 7}', ['k', 'v'], 1));
step('evalsha of none', last(fn() => $client->evalSha(str_repeat('0', 40), ['k'], 1)));
$sha = step('script load', fn() => $client->script('load', 'return ARGV[1]'));
step('evalsha', fn() => [$client->evalSha($sha, ['k1', 'a'], 1), $client->evalSha($sha, ['k2', 'b'], 1)]);
step('script exists', fn() => $client->script('exists', $sha, str_repeat('0', 40)));

// pipelines, many keys
step('pipeline', function () use ($client, $keys) {
    $pipe = $client->pipeline();
    foreach ($keys as $k)
        $pipe->set($k, "value of $k");
    return $pipe->incr('n')->lRange('list', 0, -1)->exec();
});
step('mget', fn() => $client->mGet([...$keys, 'none']));
step('mset', fn() => $client->mSet(array_combine($keys, $keys)));
step('exists', fn() => $client->exists($keys));
step('scan', function () use ($client) {
    $client->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    for ($it = null, $all = []; $some = $client->scan($it, null, 17); )
        array_push($all, ...$some);
    return sorted($all);
});
step('keys', fn() => sorted($client->keys('1*:key')));
step('dbsize', fn() => $client->dbSize());
step('unlink', fn() => $client->unlink([...$keys, 'none']));
step('dbsize less', fn() => $client->dbSize());

// sizes and bytes
step('1 MiB', fn() => $client->set('big', big(1 << 20)));
step('1 MiB back', fn() => $client->get('big'));
step('binary', fn() => $client->set("\0\r\n\xff", "\0\r\n\xfe"));
step('binary back', fn() => $client->get("\0\r\n\xff"));
step('serialized', function () use ($port) {
    $other = new Redis();
    $other->connect('127.0.0.1', $port, 8);
    $other->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
    $other->setOption(Redis::OPT_PREFIX, 'app:');
    return [$other->set('thing', ['n' => 1, 'list' => [1, 2]]), $other->get('thing'), $other->mGet(['thing', 'none'])];
});

// errors
step('wrongtype', last(fn() => $client->incr('list')));
step('wrong arity', last(fn() => $client->rawCommand('GET')));
step('unknown', last(fn() => $client->rawCommand('NOSUCHCOMMAND', 'x')));
step('not an integer', last(fn() => $client->incr('alive')));

// refused by design, for now
$text();
refused('watch', fn() => $client->watch('alive'), $alive, $text);
refused('blpop', fn() => $client->blPop(['empty list'], 1), $alive, $text);
// When MULTI is refused it goes on queueing by itself: discard() brings it back.
refused('transaction', fn() => $client->multi()->set('t', '1')->exec(), function () use ($client) {
    if ($client->getMode() !== Redis::ATOMIC)
        $client->discard();
    return $client->get('alive');
}, $text);
// A connection of its own, as this library wants; it comes back at once, and does not tell why.
$listener = new Redis();
$listener->connect('127.0.0.1', $port, 8, null, 0, 1);
refused('subscribe', function () use ($listener) {
    $began = microtime(true);
    if (!$listener->subscribe(['channel'], fn() => null) && microtime(true) - $began < 0.5)
        throw new Exception('not served by this proxy, as far as it can tell');
}, $alive);

// sessions and a persistent connection, as web applications use them
step('session', function () use ($port) {
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', "tcp://127.0.0.1:$port?prefix=sess:&timeout=8");
    ini_set('session.use_cookies', '0');
    ini_set('session.cache_limiter', '');
    session_id('abcdef');
    session_start();
    $_SESSION['user'] = 'x';
    session_write_close();
    $_SESSION = [];
    session_start();
    $got = $_SESSION;
    session_destroy();
    return $got;
});
step('a persistent connection', function () use ($port) {
    $other = new Redis();
    $other->pconnect('127.0.0.1', $port, 8, 'app');
    return $other->get('alive');
});
step('close', fn() => $client->close());
