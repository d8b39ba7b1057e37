# redis-rb as Debian has it.
require 'redis'
require_relative 'transcript'

client = Redis.new(host: '127.0.0.1', port: PORT, id: 'app', timeout: 8, reconnect_attempts: 0)
alive = -> { client.get('alive') }
keys = (0...200).map { |i| "#{i}:key" }

step('ping') { client.ping }
step('echo') { client.echo('hello') }
step('select') { client.select(0) }
step('name') { client.call(%w[CLIENT GETNAME]) }
step('info') { client.info.key?('redis_version') }

# strings, counters, expiry
step('set') { client.set('alive', 'yes') }
step('get', &alive)
step('get none') { client.get('none') }
step('set nx') { client.set('alive', 'no', nx: true) }
step('set ex get') { client.set('alive', 'yes', ex: 1000, get: true) }
step('ttl') { client.ttl('alive') > 900 }
step('persist') { client.persist('alive') }
step('incr') { client.incrby('counter', 41) }
step('incrbyfloat') { client.incrbyfloat('counter', 0.5) }
step('getdel') { client.getdel('counter') }

# collections
step('hset') { client.hset('hash', { 'a' => 1, 'b' => 2 }) }
step('hgetall') { client.hgetall('hash') }
step('mapped') { client.mapped_hmget('hash', 'b', 'none') }
step('hscan') { client.hscan_each('hash').to_a }
step('rpush') { client.rpush('list', %w[a b c]) }
step('lrange') { client.lrange('list', 0, -1) }
step('sadd') { client.sadd('set', %w[x y]) }
step('smembers') { client.smembers('set').sort }
step('zadd') { client.zadd('zset', [[1.5, 'a'], [2, 'b']]) }
step('zrange') { client.zrange('zset', 0, -1, with_scores: true) }

# streams
step('xadd') { client.xadd('stream', { 'field' => 'value' }, id: '1-1') }
step('xrange') { client.xrange('stream') }
step('xread') { client.xread('stream', '0') }
step('xgroup') { client.xgroup(:create, 'stream', 'group', '0') }
step('xreadgroup') { client.xreadgroup('group', 'me', 'stream', '>', count: 1) }
step('xack') { client.xack('stream', 'group', '1-1') }

# scripts
step('eval') { client.eval('return {KEYS[1], ARGV[1], 7}', keys: ['k'], argv: ['v']) }
step('evalsha of none') { client.evalsha('0' * 40, keys: ['k']) }
sha = step('script load') { client.script(:load, 'return ARGV[1]') }
step('evalsha') { (0..7).map { |i| client.evalsha(sha, keys: ["k#{i}"], argv: [i]) } }
step('script exists') { client.script(:exists, [sha, '0' * 40]) }

# pipelines, many keys
step('pipeline') do
  client.pipelined do |pipe|
    keys.each { |k| pipe.set(k, "value of #{k}") }
    pipe.incr('n')
    pipe.lrange('list', 0, -1)
  end
end
step('mget') { client.mget(*keys, 'none') }
step('mapped mget') { client.mapped_mget(keys[0], 'none') }
step('mset') { client.mset(*keys.flat_map { |k| [k, k] }) }
step('exists') { client.exists(*keys, 'none') }
step('scan') { client.scan_each(count: 17).to_a.sort.uniq }
step('scan match') { client.scan_each(match: '1*:key').to_a.sort.uniq }
step('keys') { client.keys('1*:key').sort }
step('dbsize') { client.dbsize }
step('del') { client.del(*keys, 'none') }
step('dbsize less') { client.dbsize }

# sizes and bytes
step('1 MiB') { client.set('big', big(1 << 20)) }
step('1 MiB back') { client.get('big') }
step('binary') { client.set("\0\r\n\xff".b, "\0\r\n\xfe".b) }
step('binary back') { client.get("\0\r\n\xff".b).b }

# errors
step('wrongtype') { client.incr('list') }
step('wrong arity') { client.call(%w[GET]) }
step('unknown') { client.call(%w[NOSUCHCOMMAND x]) }
step('not an integer') { client.incr('alive') }
step('error in a pipeline') { client.pipelined { |p| p.incr('list'); p.get('alive') } }
step('after an error', &alive)

# refused by design, for now
refused('transaction', alive) { client.multi { |t| t.set('t', 1); t.get('t') } }
refused('watch', alive) { client.watch('alive') { |c| c.get('alive') } }
refused('blpop', alive) { client.blpop('empty list', timeout: 1) }
refused('subscribe', alive) { client.subscribe('channel') { |on| on.subscribe { client.unsubscribe } } }

step('a url') { Redis.new(url: "redis://127.0.0.1:#{PORT}/0").get('alive') }
step('quit') { client.quit }
