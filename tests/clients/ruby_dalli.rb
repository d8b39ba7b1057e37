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
refused('set', nil, /Unknown command/) { connection.set('k', 'v') }
refused('get', nil, /Unknown command/) { connection.get('k') }
refused('get_multi', nil, /Response error 129/) { connection.get_multi('a', 'b') }
tell('in time', !THROUGH || Process.clock_gettime(Process::CLOCK_MONOTONIC) - began < 2)
