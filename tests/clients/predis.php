<?php
// Predis, the library in PHP itself, as Debian has it.
require __DIR__ . '/transcript.php';
require 'Predis/Autoloader.php';
Predis\Autoloader::register();

class Shout extends Predis\Command\ScriptCommand
{
    public function getKeysCount() { return 1; }
    public function getScript() { return 'return redis.call("GET", KEYS[1]) .. ARGV[1]'; }
}

$where = ['host' => '127.0.0.1', 'port' => $port, 'database' => 0, 'timeout' => 8, 'read_write_timeout' => 8];
$client = new Predis\Client($where);
$client->getProfile()->defineCommand('shout', 'Shout');
$alive = fn() => $client->get('alive');
$keys = array_map(fn($i) => "$i:key", range(0, 199));

step('ping', fn() => $client->ping());
step('echo', fn() => $client->echo('hello'));
step('select', fn() => $client->select(0));
step('setname', fn() => $client->client('setname', 'app'));
step('getname', fn() => $client->client('getname'));
step('info', fn() => isset($client->info()['Server']['redis_version']));

// strings, counters, expiry
step('set', fn() => $client->set('alive', 'yes'));
step('get', $alive);
step('get none', fn() => $client->get('none'));
step('set nx', fn() => $client->set('alive', 'no', 'EX', 10, 'NX'));
step('setex', fn() => $client->setex('short', 1000, 'v'));
step('ttl', fn() => $client->ttl('short') > 900);
step('incr', fn() => $client->incrby('counter', 41));
step('incrbyfloat', fn() => $client->incrbyfloat('counter', 0.5));
step('del', fn() => $client->del('short', 'counter'));

// collections
step('hset', fn() => $client->hmset('hash', ['a' => '1', 'b' => '2']));
step('hgetall', fn() => $client->hgetall('hash'));
step('hscan', fn() => iterator_to_array(new Predis\Collection\Iterator\HashKey($client, 'hash')));
step('rpush', fn() => $client->rpush('list', ['a', 'b', 'c']));
step('lrange', fn() => $client->lrange('list', 0, -1));
step('sadd', fn() => $client->sadd('set', ['x', 'y']));
step('smembers', fn() => sorted($client->smembers('set')));
step('zadd', fn() => $client->zadd('zset', ['a' => 1.5, 'b' => 2]));
step('zrange', fn() => $client->zrange('zset', 0, -1, ['withscores' => true]));

// streams: this version has no methods of its own for them
step('xadd', fn() => $client->executeRaw(['XADD', 'stream', '1-1', 'field', 'value']));
step('xrange', fn() => $client->executeRaw(['XRANGE', 'stream', '-', '+']));
step('xgroup', fn() => $client->executeRaw(['XGROUP', 'CREATE', 'stream', 'group', '0']));
step('xreadgroup', fn() => $client->executeRaw(['XREADGROUP', 'GROUP', 'group', 'me', 'STREAMS', 'stream', '>']));
step('xack', fn() => $client->executeRaw(['XACK', 'stream', 'group', '1-1']));

// scripts: EVALSHA, and EVAL if the server says NOSCRIPT
step('eval', fn() => $client->eval('return {KEYS[1], ARGV[1], 7}', 1, 'k', 'v'));
step('evalsha of none', fn() => $client->evalsha(str_repeat('0', 40), 1, 'k'));
step('a command of ours', fn() => $client->shout('alive', '!'));
step('the same on other keys', fn() => array_map(
    fn($i) => [$client->set("s$i", $i), $client->shout("s$i", '?')], range(0, 19)));
$sha = step('script load', fn() => $client->script('load', 'return ARGV[1]'));
step('evalsha', fn() => [$client->evalsha($sha, 1, 'k1', 'a'), $client->evalsha($sha, 1, 'k2', 'b')]);

// pipelines, many keys
step('pipeline', fn() => $client->pipeline(function ($pipe) use ($keys) {
    foreach ($keys as $k)
        $pipe->set($k, "value of $k");
    $pipe->incr('n')->lrange('list', 0, -1);
}));
step('mget', fn() => $client->mget([...$keys, 'none']));
step('mset', fn() => $client->mset(array_combine($keys, $keys)));
step('exists', fn() => $client->exists($keys[0], $keys[1], 'none'));
step('scan', fn() => sorted(iterator_to_array(new Predis\Collection\Iterator\Keyspace($client, null, 17), false)));
step('keys', fn() => sorted($client->keys('1*:key')));
step('dbsize', fn() => $client->dbsize());
step('del many', fn() => $client->del([...$keys, 'none']));
step('dbsize less', fn() => $client->dbsize());

// sizes and bytes
step('1 MiB', fn() => $client->set('big', big(1 << 20)));
step('1 MiB back', fn() => $client->get('big'));
step('binary', fn() => $client->set("\0\r\n\xff", "\0\r\n\xfe"));
step('binary back', fn() => $client->get("\0\r\n\xff"));

// errors
step('wrongtype', fn() => $client->incr('list'));
step('wrong arity', fn() => first($client->executeRaw(['GET'])));
step('unknown', fn() => first($client->executeRaw(['NOSUCHCOMMAND', 'x'])));
step('not an integer', fn() => $client->incr('alive'));
step('after an error', $alive);

// refused by design, for now
refused('transaction', fn() => $client->transaction(fn($t) => $t->set('t', '1')), $alive);
refused('watch', fn() => $client->watch('alive'), $alive);
refused('blpop', fn() => $client->blpop(['empty list'], 1), $alive);
// A connection of its own, as this library wants; it stumbles over the error itself, and does not tell it.
$listener = new Predis\Client($where);
refused('subscribe', function () use ($listener) {
    foreach ($listener->pubSubLoop(['subscribe' => 'channel']) as $message)
        return $message;
}, $alive, null, 'Predis\Response\Error');
step('quit', fn() => $client->quit());
