# dalli as Debian has it: its meta protocol, and its binary one, which is refused.
require 'logger'
require 'dalli'
require_relative 'transcript'

Dalli.logger = Logger.new(File::NULL)

def connection(protocol)
  Dalli::Client.new("127.0.0.1:#{PORT}", protocol: protocol, socket_timeout: 8, socket_max_failures: 0,
                                         socket_failure_delay: nil, down_retry_delay: 0)
end

client = connection(:meta)
alive = -> { client.get('alive') }
keys = (0...200).map { |i| "#{i}:key" }

step('set') { client.set('alive', 'yes').class }
step('get', &alive)
step('get none') { client.get('none') }
step('add') { [client.add('new', 'x') ? true : false, client.add('new', 'y')] }
step('replace') { [client.replace('new', 'z') ? true : false, client.replace('none', 'x')] }
step('append') do
  [client.set('t', 'b', 0, raw: true).class, client.append('t', 'c'), client.prepend('t', 'a'), client.get('t', raw: true)]
end
step('incr') { [client.incr('n', 6, 0, 1), client.incr('n', 6), client.decr('n', 3), client.decr('none')] }
step('cas') { [client.cas('alive') { |v| v } ? true : false, client.cas('none') { 'x' }] }
step('get cas') { client.get_cas('alive').then { |v, token| [v, token.is_a?(Integer)] } }
step('touch') { [client.touch('alive', 1000), client.touch('none', 1000)] }
step('gat') { client.gat('alive', 1000) }
step('delete') { [client.delete('new'), client.delete('new')] }
step('without answers') { client.multi { keys.each { |k| client.set(k, "value of #{k}") } }; client.get(keys[7]) }
step('get multi') { client.get_multi(keys + ['none']).sort }
step('fetch') { [client.fetch('fetched') { 'made' }, client.fetch('fetched') { 'not made' }] }
step('values of all kinds') { [client.set('thing', { n: [1, 2.5, nil] }).class, client.get('thing')] }
step('compressed') { [client.set('z', 'x' * 100_000, 0, compress: true).class, client.get('z')] }
step('900 KiB') { client.set('big', big(900 << 10), 0, raw: true).class }
step('900 KiB back') { client.get('big', raw: true) }
step('binary') { [client.set('b', "\0\r\nEN\r\n\xff".b, 0, raw: true).class, client.get('b', raw: true).b] }
step('a key of any bytes') { [client.set("k\u00e4y \u20ac", 'x').class, client.get("k\u00e4y \u20ac")] }
step('incr of text') { client.incr('alive') }
step('after an error', &alive)
step('stats') { client.stats.values.map { |s| s && %w[pid curr_items version].all? { |k| s.key?(k) } } }
step('version') { client.version.values.map { |v| v.class } }
refused('flush', alive, /not served by this proxy|./) { client.flush.each { |ok| raise 'refused' unless ok == true } }

began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
refused('binary protocol', alive, /./) { connection(:binary).set('binary', 'x') }
tell('in time', !THROUGH || Process.clock_gettime(Process::CLOCK_MONOTONIC) - began < 2)
