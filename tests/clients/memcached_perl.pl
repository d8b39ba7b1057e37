# Cache::Memcached::Fast of Perl, as Debian has it (text).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Transcript;
use Cache::Memcached::Fast;

my $client = Cache::Memcached::Fast->new({ servers => ["127.0.0.1:$port"], io_timeout => 8, max_failures => 0,
                                           compress_threshold => 1 << 30 });
my $alive = sub { $client->get('alive') };
my @keys = map { "$_:key" } 0 .. 199;

step('set', sub { $client->set(alive => 'yes') });
step('get', $alive);
step('get none', sub { $client->get('none') });
step('add', sub { [$client->add(new => 1), $client->add(new => 2)] });
step('replace', sub { [$client->replace(new => 3), $client->replace(none => 1)] });
step('append', sub { [$client->append(new => 4), $client->prepend(new => 2), $client->get('new')] });
step('incr', sub { [$client->incr('new', 6), $client->decr('new', 41), $client->incr('none')] });
step('cas', sub { [$client->cas('alive', $client->gets('alive')->[0], 'yes'), $client->cas('alive', 1, 'no')] });
step('touch', sub { [$client->touch('alive', 1000), $client->touch('none', 1000)] });
step('gat', sub { $client->gat(1000, 'alive') });
step('delete', sub { [$client->delete('new'), $client->delete('new')] });
step('set_multi', sub { $client->set_multi(map { [$_ => "value of $_"] } @keys) });
step('get_multi', sub { $client->get_multi(@keys, 'none') });
step('delete_multi', sub { $client->delete_multi(@keys) });
step('values of all kinds', sub { [$client->set(thing => { n => [1, 2.5] }), $client->get('thing')] });
step('nowait', sub {
    $client->set(quiet => $_) for 1 .. 50;  # in void context: it does not wait for the answers
    $client->nowait_push;
    return $client->get('quiet');
});
step('900 KiB', sub { $client->set(big => big(900 << 10)) });
step('900 KiB back', sub { $client->get('big') });
step('binary', sub { [$client->set(b => "\0\r\nEND\r\n\xff"), $client->get('b')] });
step('incr of text', sub { $client->incr('alive') });
step('after an error', $alive);
step('versions', sub { scalar keys %{ $client->server_versions } });
# It knows no words of an error: that there was one must do.
refused('flush_all', sub {
    $client->flush_all->{"127.0.0.1:$port"} or die 'not served by this proxy, as far as it can tell';
}, $alive);
