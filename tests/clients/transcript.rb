# What the scripts in Ruby print: a line for each step, what was done and what came back.
#
#     ruby ruby_redis.rb PORT direct|proxy
#
# The same script is run against one server and through the proxy; the lines must be equal.
require 'digest'

$stdout.sync = true
PORT = Integer(ARGV[0])
THROUGH = ARGV[1] == 'proxy'

def big(size) # bytes of every value, always the same
  ((0..255).to_a.pack('C*') + "\r\nEND\r\n".b).*(size / 256 + 1)[0, size]
end

def show(value)
  case value
  when String then value.bytesize > 100 ? "#{value.bytesize} bytes, #{Digest::SHA1.hexdigest(value)}" : value.inspect
  when Array then "[#{value.map { |v| show(v) }.join(', ')}]"
  when Hash then "{#{value.map { |k, v| "#{show(k)} => #{show(v)}" }.join(', ')}}"
  when Exception then kind(value)
  else value.inspect
  end
end

def kind(error) # its class, and what kind of message
  "#{error.class}: #{error.message.split[0, 3].join(' ')}"
end

def tell(name, what)
  puts "#{name}: #{what}"
end

def step(name)
  value = yield
  tell(name, show(value))
  value
rescue StandardError => e
  tell(name, kind(e))
  nil
end

# The proxy refuses this by design, and says so; a server alone is not asked.  `alive` is asked afterwards.
def refused(name, alive, why = /not served by this proxy/)
  said = 'refused'
  if THROUGH
    begin
      said = "NOT REFUSED: #{show(yield)}"
    rescue StandardError => e
      said = "REFUSED OTHERWISE: #{e.class}: #{e.message}" unless e.message.match?(why)
    end
  end
  tell(name, said)
  step("after #{name}", &alive) if alive
end
