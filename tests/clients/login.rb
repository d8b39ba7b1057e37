# redis-rb with a password: right, wrong and none.
require 'redis'
require_relative 'transcript'

{ 'password' => { password: 'sesame' }, 'name and password' => { username: 'default', password: 'sesame' },
  'wrong password' => { password: 'wrong' }, 'none' => {} }.each do |how, secret|
  step("redis-rb, #{how}") do
    client = Redis.new(host: '127.0.0.1', port: PORT, id: 'app', db: 0, timeout: 8, reconnect_attempts: 0, **secret)
    begin
      [client.set('k', how), client.get('k')]
    rescue Redis::BaseError => e # the proxy's words are twemproxy's, and a server's before 6: that it is told must do
      raise unless e.message.match?(/WRONGPASS|invalid password|NOAUTH/)

      'no entry'
    end
  end
end
