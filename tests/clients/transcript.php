<?php
// What the scripts in PHP print: a line for each step, what was done and what came back.
//
//     php phpredis.php PORT direct|proxy
//
// The same script is run against one server and through the proxy; the lines must be equal.
error_reporting(E_ALL & ~E_DEPRECATED);
ob_start();                             // so that a session may still set its headers

[, $port, $mode] = $argv;
$port = (int)$port;

function big($size)                     // bytes of every value, always the same
{
    $some = implode('', array_map('chr', range(0, 255)));
    return substr(str_repeat($some . "\r\nEND\r\n", intdiv($size, 256) + 1), 0, $size);
}

function show($value)
{
    if (is_string($value))
        return strlen($value) > 100 ? strlen($value) . ' bytes, ' . sha1($value)
            : '"' . addcslashes($value, "\0..\37\177..\377") . '"';
    if (is_array($value)) {
        $out = [];
        foreach ($value as $k => $v)
            $out[] = array_is_list($value) ? show($v) : "$k: " . show($v);
        return '[' . implode(', ', $out) . ']';
    }
    if ($value instanceof Throwable)
        return kind($value);
    return is_object($value) ? get_class($value) . " $value" : var_export($value, true);
}

function kind($error)                   // its class, and what kind of message
{
    return get_class($error) . ': ' . implode(' ', array_slice(preg_split('/\s+/', $error->getMessage()), 0, 3));
}

function tell($name, $what)
{
    echo "$name: $what\n";
}

function step($name, $work)
{
    try {
        $value = $work();
        tell($name, show($value));
        return $value;
    } catch (Throwable $e) {
        tell($name, kind($e));
        return null;
    }
}

// The proxy refuses this by design, and says so; a server alone is not asked.  `said` gives the message
// if the library throws none; $why is what it must say.
function refused($name, $work, $alive, $said = null, $why = 'not served by this proxy')
{
    global $mode;
    $what = 'refused';
    if ($mode === 'proxy') {
        try {
            $value = $work();
            $message = $said ? (string)$said() : '';
            if (!str_contains($message, $why))
                $what = 'NOT REFUSED: ' . show($value) . " $message";
        } catch (Throwable $e) {
            $message = $e->getMessage() . ($said ? (string)$said() : '');
            if (!str_contains($message, $why))
                $what = 'REFUSED OTHERWISE: ' . get_class($e) . ": $message";
        }
    }
    tell($name, $what);
    step("after $name", $alive);
}

function first($words)                  // of a message that came as a string
{
    return implode(' ', array_slice(explode(' ', $words), 0, 3));
}

function sorted($values)
{
    sort($values, SORT_STRING);
    return array_values(array_unique($values));
}
