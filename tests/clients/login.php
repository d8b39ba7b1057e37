<?php
// phpredis and Predis with a password: right, wrong and none.
require __DIR__ . '/transcript.php';
require 'Predis/Autoloader.php';
Predis\Autoloader::register();

// The proxy's words for a wrong password are twemproxy's, and a server's before 6: that it is told must do.
function login($name, $work)
{
    step($name, function () use ($work) {
        try {
            return $work();
        } catch (Exception $e) {
            if (preg_match('/WRONGPASS|invalid password|NOAUTH/', $e->getMessage()))
                return 'no entry';
            throw $e;
        }
    });
}

foreach (['password' => 'sesame', 'name and password' => ['default', 'sesame'], 'wrong password' => 'wrong',
          'none' => null] as $how => $secret) {
    login("phpredis, $how", function () use ($port, $how, $secret) {
        $client = new Redis();
        $client->connect('127.0.0.1', $port, 8, null, 0, 8, $secret === null ? [] : ['auth' => $secret]);
        return [$client->set('k', $how), $client->get('k')];
    });
    login("Predis, $how", function () use ($port, $how, $secret) {
        $login = $secret === null ? [] : ['password' => is_array($secret) ? $secret[1] : $secret];
        $client = new Predis\Client(['host' => '127.0.0.1', 'port' => $port, 'database' => 0] + $login);
        return [$client->set('k', $how), $client->get('k')];
    });
}
