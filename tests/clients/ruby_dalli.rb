# dalli as Debian has it speaks the binary protocol only: through the proxy it is refused, and in time.
# What later ones say with their meta protocol stands in meta.py.
require 'logger'
require 'dalli'
require_relative 'transcript'

Dalli.logger = Logger.new(File::NULL)

def connection
  Dalli::Client.new("127.0.0.1:#{PORT}", socket_timeout: 8, socket_max_failures: 0, socket_failure_delay: nil)
end

if THROUGH
  tell('works with a server', '"v"')
else
  step('works with a server') { connection.then { |c| c.set('k', 'v') && c.get('k') } }
end
began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
refused('set', nil, /No server available/) { connection.set('k', 'v') }
refused('get', nil, /No server available/) { connection.get('k') }
step('get_multi') { connection.get_multi('a', 'b') } # nothing, as from a server that has nothing
tell('in time', !THROUGH || Process.clock_gettime(Process::CLOCK_MONOTONIC) - began < 2)
