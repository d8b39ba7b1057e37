# Redis.pm of Perl, as Debian has it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Transcript;
use Redis;

my $client = Redis->new(server => "127.0.0.1:$port", name => 'app', read_timeout => 8, encoding => undef);
my $alive = sub { $client->get('alive') };
my @keys = map { "$_:key" } 0 .. 199;

step('ping', sub { $client->ping });
step('echo', sub { $client->echo('hello') });
step('select', sub { $client->select(0) });
step('name', sub { $client->client_getname });
step('info', sub { exists $client->info->{redis_version} ? 'yes' : 'no' });
step('set', sub { $client->set(alive => 'yes') });
step('get', $alive);
step('get none', sub { $client->get('none') });
step('set nx', sub { $client->set(alive => 'no', 'NX') });
step('setex', sub { $client->setex(short => 1000, 'v') });
step('ttl', sub { $client->ttl('short') > 900 });
step('incr', sub { $client->incrby(counter => 41) });
step('incrbyfloat', sub { $client->incrbyfloat(counter => 0.5) });
step('hset', sub { $client->hmset(hash => a => 1, b => 2) });
step('hgetall', sub { my %h = $client->hgetall('hash'); \%h });
step('rpush', sub { $client->rpush(list => qw(a b c)) });
step('lrange', sub { [$client->lrange('list', 0, -1)] });
step('sadd', sub { $client->sadd(set => qw(x y)) });
step('smembers', sub { [sort $client->smembers('set')] });
step('zadd', sub { $client->zadd(zset => 1.5, 'a', 2, 'b') });
step('zrange', sub { [$client->zrange('zset', 0, -1, 'WITHSCORES')] });
step('xadd', sub { $client->xadd('stream', '1-1', field => 'value') });
step('xrange', sub { [$client->xrange('stream', '-', '+')] });
step('eval', sub { [$client->eval('return {KEYS[1], ARGV[1], 7}', 1, 'k', 'v')] });
step('evalsha of none', sub { $client->evalsha('0' x 40, 1, 'k') });
my $sha = step('script load', sub { $client->script_load('return ARGV[1]') });
step('evalsha', sub { [map { scalar $client->evalsha($sha, 1, "k$_", $_) } 0 .. 7] });
step('pipeline', sub {
    my @got;
    $client->set($_ => "value of $_", sub { push @got, $_[0] }) for @keys;
    $client->wait_all_responses;
    return \@got;
});
step('mget', sub { [$client->mget(@keys, 'none')] });
step('mset', sub { $client->mset(map { $_ => $_ } @keys) });
step('scan', sub {
    my ($cursor, %seen) = (0);
    do {
        ($cursor, my $some) = $client->scan($cursor, COUNT => 17);
        $seen{$_} = 1 for @$some;
    } while ($cursor);
    return [sort keys %seen];
});
step('keys', sub { [sort $client->keys('1*:key')] });
step('dbsize', sub { $client->dbsize });
step('del', sub { $client->del(@keys, 'none') });
step('1 MiB', sub { $client->set(big => big(1 << 20)) });
step('1 MiB back', sub { $client->get('big') });
step('binary', sub { $client->set("\0\r\n\xff" => "\0\r\n\xfe") });
step('binary back', sub { $client->get("\0\r\n\xff") });
step('wrongtype', sub { $client->incr('list') });
step('wrong arity', sub { $client->get });
step('unknown', sub { $client->nosuchcommand('x') });
step('not an integer', sub { $client->incr('alive') });
refused('transaction', sub { $client->multi }, $alive);
refused('watch', sub { $client->watch('alive') }, $alive);
refused('blpop', sub { $client->blpop('empty list', 1) }, $alive);
# It believes that it is subscribed whatever it was told, so this is a connection of its own.
my $listener = Redis->new(server => "127.0.0.1:$port", read_timeout => 2);
refused('subscribe', sub { $listener->subscribe('channel', sub { }) }, $alive);
step('quit', sub { $client->quit });
