<?php
// The extension memcached of PHP as Debian has it: libmemcached, text, and binary, which is refused.
require __DIR__ . '/transcript.php';

function connection($options = [])
{
    global $port;
    $client = new Memcached();
    $client->setOptions([Memcached::OPT_RECV_TIMEOUT => 8000000, Memcached::OPT_TCP_NODELAY => true] + $options);
    $client->addServer('127.0.0.1', $port);
    return $client;
}

$client = connection();
$alive = fn() => $client->get('alive');
$keys = array_map(fn($i) => "$i:key", range(0, 199));
// What it returns, and its own word for what happened.
$told = fn($value) => [$value, $client->getResultMessage()];

step('version', fn() => count($client->getVersion()));
step('set', fn() => $told($client->set('alive', 'yes')));
step('get', $alive);
step('get none', fn() => $told($client->get('none')));
step('add', fn() => [$told($client->add('new', 1)), $told($client->add('new', 2))]);
step('replace', fn() => [$told($client->replace('new', 3)), $told($client->replace('none', 1))]);
step('append', function () use ($client) {
    $client->setOption(Memcached::OPT_COMPRESSION, false);
    return [$client->set('t', 'b'), $client->append('t', 'c'), $client->prepend('t', 'a'), $client->get('t')];
});
step('increment', fn() => [$client->increment('new', 6), $client->decrement('new', 4),
                           $told($client->increment('none'))]);
step('cas', function () use ($client, $told) {
    $token = $client->get('alive', null, Memcached::GET_EXTENDED)['cas'];
    return [$told($client->cas($token, 'alive', 'yes')), $told($client->cas($token, 'alive', 'no'))];
});
step('touch', fn() => [$client->touch('alive', 1000), $told($client->touch('none', 1000))]);
step('delete', fn() => [$client->delete('new'), $told($client->delete('new'))]);
step('set multi', fn() => $client->setMulti(array_combine($keys, $keys)));
step('get multi', function () use ($client, $keys) {
    $got = $client->getMulti([...$keys, 'none'], Memcached::GET_PRESERVE_ORDER);
    return $got;
});
step('get delayed', function () use ($client, $keys) {
    $client->getDelayed(array_slice($keys, 0, 20));
    $got = array_column($client->fetchAll(), 'value', 'key');
    ksort($got);
    return $got;
});
step('delete multi', fn() => count(array_filter($client->deleteMulti($keys))));
step('values of all kinds', fn() => [$client->set('thing', ['n' => [1, 2.5, null, true]]), $client->get('thing')]);
step('900 KiB', fn() => $told($client->set('big', big(900 << 10))));
step('900 KiB back', fn() => $client->get('big'));
step('binary', fn() => [$client->set('b', "\0\r\nEND\r\n\xff"), $client->get('b')]);
step('increment of text', fn() => $told($client->increment('alive')));
step('key too long', fn() => $told($client->get(str_repeat('k', 251))));
step('after an error', $alive);
step('stats', fn() => array_map(fn($s) => isset($s['pid'], $s['curr_items'], $s['version']),
                                array_values($client->getStats())));
step('no reply', function () {
    $quiet = connection([Memcached::OPT_NOREPLY => true]);
    for ($i = 0; $i < 100; $i++)
        $quiet->set('quiet', "$i");
    return $quiet->get('quiet');
});
// It knows no words of an error: that there was one must do.
function must_fail($client, $value)
{
    if ($value !== false || $client->getResultCode() === Memcached::RES_SUCCESS)
        return $value;
    throw new Exception('not served by this proxy, as far as it can tell: ' . $client->getResultMessage());
}

refused('flush', fn() => must_fail($client, $client->flush()), $alive);
$binary = connection([Memcached::OPT_BINARY_PROTOCOL => true]);
$began = microtime(true);
refused('binary protocol', fn() => must_fail($binary, $binary->set('binary', 'x')), $alive);
tell('in time', $mode !== 'proxy' || microtime(true) - $began < 2 ? 'yes' : 'no');
