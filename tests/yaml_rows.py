"""Configurations of twemproxy, for test_convert.py.

Each good one is a name, what its doors speak (r: redis, m: memcached, a: redis with a
password; the first is {p0}, the second {p1} ...) and the text.  {r0} to {r3} are the ports
of redis-servers, {u0} to {u3} their unix sockets, {m0} to {m2} the ports of memcacheds,
{a0} and {a1} those of redis-servers with a password, {d} a folder.
"""

GOOD = (
    ("the smallest", "m", """
alpha:
  listen: 127.0.0.1:{p0}
  servers:
   - 127.0.0.1:{m0}:1
"""),
    ("the list as deep as its key", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
"""),
    ("the list deeper than its key", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
        - 127.0.0.1:{r0}:1
        - 127.0.0.1:{r1}:1
  hash: md5
"""),
    ("the example of twemproxy's own README", "rrm", """
alpha:
  listen: 127.0.0.1:{p0}
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: true
  redis: true
  server_retry_timeout: 2000
  server_failure_limit: 1
  servers:
   - 127.0.0.1:{r0}:1

beta:
  listen: 127.0.0.1:{p1}
  hash: fnv1a_64
  hash_tag: "{{}}"
  distribution: ketama
  auto_eject_hosts: false
  timeout: 400
  redis: true
  servers:
   - 127.0.0.1:{r0}:1 server1
   - 127.0.0.1:{r1}:1 server2
   - 127.0.0.1:{r2}:1 server3
   - 127.0.0.1:{r3}:1 server4

gamma:
  listen: 127.0.0.1:{p2}
  hash: fnv1a_64
  distribution: ketama
  timeout: 400
  backlog: 1024
  preconnect: true
  auto_eject_hosts: true
  server_retry_timeout: 2000
  server_failure_limit: 3
  servers:
   - 127.0.0.1:{m0}:1
   - 127.0.0.1:{m1}:1
"""),
    ("comments wherever they may stand", "r", """# the head

#
alpha: # a pool
  # above a key
  listen: 127.0.0.1:{p0} # behind a value
  redis: true#false is not behind a blank
""".replace("true#false is not behind a blank", "true   # a # b ; c") + """
        # deep
  servers: # behind the list
# at the margin
  - 127.0.0.1:{r0}:1 one # behind an item
  # between items
  - 127.0.0.1:{r1}:1 two
  # at the end of the list
  hash: murmur
# the end"""),
    ("quotes of both kinds", "r", """
"alpha":
  'listen': '127.0.0.1:{p0}'
  "redis": "true"
  'hash': "jenkins"
  "distribution": 'modula'
  'timeout' : "400"
  "servers":
  - '127.0.0.1:{r0}:1'
  - "127.0.0.1:{r1}:3"
  - 127.0.0.1:{r2}:2
"""),
    ("escapes and doubled quotes", "r", """
"al\\x70ha \\u00e9 \\U0001f95c":
  listen: "\\x3127.0.0.1:{p0}"
  redis: "tr\\u0075e"
  hash_tag: '''.'
  servers:
  - '127.0.0.1:{r0}:1 it''s'
  - "127.0.0.1:{r1}:1 under\\x5fin\\/it"
"""),
    ("carriage returns", "r", """
alpha:\r
  listen: 127.0.0.1:{p0}\r
  redis: true # c\r
  servers:\r
  - 127.0.0.1:{r0}:1\r
\r
  - 127.0.0.1:{r1}:1 \r
"""),
    ("a byte order mark", "r", """\ufeffalpha:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r2}:1
"""),
    ("no newline at the end", "r", """alpha:
  redis: true
  listen: 127.0.0.1:{p0}
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1"""),
    ("keys in any order, the list first", "r", """
alpha:
  servers:
  - 127.0.0.1:{r3}:1
  - 127.0.0.1:{r0}:2
  distribution: modula
  redis: true
  hash: crc32a
  listen: 127.0.0.1:{p0}
"""),
    ("values on lines of their own", "r", """
alpha:
  listen:
    127.0.0.1:{p0}
  redis:

      true
  servers:
  -
    127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
     one
  - "127.0.0.1:{r2}:1
     two"
"""),
    ("everything is indented", "rm", """
    alpha:
       listen: 127.0.0.1:{p0}
       redis: true
       servers:
       - 127.0.0.1:{r0}:1
       - 127.0.0.1:{r1}:1
    beta:
     listen: 127.0.0.1:{p1}
     servers:
     -   127.0.0.1:{m0}:1
     -   127.0.0.1:{m1}:1
"""),
    ("blank lines, trailing blanks, tabs behind values", "r", """

alpha:  \t

  listen:   127.0.0.1:{p0} \t
  redis:\ttrue
     \n
  servers:
     \n
  -   127.0.0.1:{r0}:1   \t
  - 127.0.0.1:{r1}:1
"""),
    ("names of pools that an INI must quote", "rrr", """
be ]ta:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
nutproxy:
  listen: 127.0.0.1:{p1}
  redis: true
  servers:
  - 127.0.0.1:{r1}:1
'#x ; y':
  listen: 127.0.0.1:{p2}
  redis: true
  servers:
  - 127.0.0.1:{r2}:1
"""),
    ("quoted names with comments that look like their end", "rr", """
nutproxy: # see [1]
  listen: 127.0.0.1:{p0} # ]
  redis: true
  servers: # [x]
  - 127.0.0.1:{r0}:1 " # "]
'a]b': # ["c"]
  listen: 127.0.0.1:{p1}
  redis: true
  servers:
  - 127.0.0.1:{r1}:1
""".replace('" # "]', "a # b]")),
    ("names and a password that are longer than lines may be", "a", "p" * 1000 + """:
  listen: 127.0.0.1:{p0}
  redis: true
  redis_auth: pa ss#1
  servers:
  - 127.0.0.1:{a0}:1 """ + "s" * 5000 + """
  - 127.0.0.1:{a1}:1 """ + "t;" * 3000 + "\n"),
    ("a pool with a long name and servers with long names", "r", "p" * 200 + """:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1 """ + "a" * 230 + """
  - 127.0.0.1:{r1}:1 """ + "b" * 250 + """
  - 127.0.0.1:{r2}:1 """ + "c" * 300 + "\n"),
    ("names of servers with colons, semicolons, apostrophes, brackets", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1 a:b:1
  - 127.0.0.1:{r1}:1 ;x
  - 127.0.0.1:{r2}:1 'y'
  - 127.0.0.1:{r3}:1 [z]=#1
"""),
    ("pools and servers that sort by length first", "rrr", """
bb:
  listen: 127.0.0.1:{p0}
  redis: true
  distribution: modula
  servers:
  - 127.0.0.1:{r0}:1 zeta
  - 127.0.0.1:{r1}:2 b
  - 127.0.0.1:{r2}:3 alpha-long
  - 127.0.0.1:{r3}:1 a
c:
  listen: 127.0.0.1:{p1}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
  - localhost:{r1}:1
aaa:
  listen: 127.0.0.1:{p2}
  redis: true
  servers:
  - 127.0.0.1:{r3}:1
"""),
    ("a password", "a", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  redis_auth: pa ss#1
  servers:
  - 127.0.0.1:{a0}:1
  - 127.0.0.1:{a1}:1
"""),
    ("a password and a database: nutcracker's data is in database 0", "a", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  redis_auth: 'pa ss#1'
  redis_db: 3
  servers:
  - 127.0.0.1:{a0}:1
  - 127.0.0.1:{a1}:1
"""),
    ("a database", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  redis_db: 3
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
"""),
    ("a database on unix sockets: nutcracker's data is in database 0", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  redis_db: 3
  servers:
  - {u0}:1
  - {u1}:1
"""),
    ("a database that memcached does not have", "m", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: false
  redis_db: 3
  servers:
  - 127.0.0.1:{m0}:1
  - 127.0.0.1:{m1}:1
"""),
    ("unix sockets on both sides, with names and without", "r", """
alpha:
  listen: {d}/alpha.sock
  redis: true
  servers:
  - {u0}:1
  - {u1}:2 one
  - 127.0.0.1:{r2}:3
"""),
    ("a unix socket with permissions", "r", """
alpha:
  listen: {d}/alpha.sock 0640
  redis: true
  servers:
  - {u0}:1
  - {u3}:1
"""),
    ("a unix socket with a blank in its path", "r", """
alpha:
  listen: {d}/al pha.sock 600
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
"""),
    ("every address, by a star", "r", """
alpha:
  listen: "*:{p0}"
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
"""),
    ("a bare IPv6 address", "r", """
alpha:
  listen: ::1:{p0}
  redis: true
  servers:
  - ::1:{r0}:1
  - ::1:{r1}:1
"""),
    ("every address of IPv4", "r", """
alpha:
  listen: 0.0.0.0:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1
"""),
    ("names of hosts", "r", """
alpha:
  listen: localhost:{p0}
  redis: true
  servers:
  - localhost:{r0}:1
  - localhost:{r1}:1
"""),
    ("tags of odd characters", "rrr", """
a:
  listen: 127.0.0.1:{p0}
  redis: true
  hash_tag: $$
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
b:
  listen: 127.0.0.1:{p1}
  redis: true
  hash_tag: ' ;'
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
c:
  listen: 127.0.0.1:{p2}
  redis: true
  hash_tag: '"'''
  servers:
  - 127.0.0.1:{r0}:1
  - 127.0.0.1:{r1}:1
"""),
    ("every key that there is", "rm", """
alpha:
  listen: 127.0.0.1:{p0}
  hash: hsieh
  hash_tag: "{{}}"
  distribution: ketama
  timeout: 1000
  backlog: 64
  client_connections: 100
  tcpkeepalive: true
  preconnect: true
  redis: true
  redis_db: 0
  server_connections: 3
  auto_eject_hosts: true
  server_retry_timeout: 1000
  server_failure_limit: 3
  servers:
  - 127.0.0.1:{r0}:1 a
  - 127.0.0.1:{r1}:1 b
beta:
  listen: 127.0.0.1:{p1}
  hash: one_at_a_time
  distribution: modula
  timeout: 0
  backlog: 0
  client_connections: 0
  tcpkeepalive: false
  preconnect: false
  redis: false
  server_connections: 1
  auto_eject_hosts: false
  server_retry_timeout: 0
  server_failure_limit: 0
  servers:
  - 127.0.0.1:{m0}:5
  - 127.0.0.1:{m1}:7
  - 127.0.0.1:{m2}:11
"""),
    ("weights of all sizes, and leading zeros", "r", """
alpha:
  listen: 127.0.0.1:0{p0}
  redis: true
  hash: md5
  timeout: 00400
  servers:
  - 127.0.0.1:{r0}:100000
  - 127.0.0.1:0{r1}:1
  - 127.0.0.1:{r2}:00050000
"""),
    ("the same server under two names", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1 one
  - 127.0.0.1:{r0}:1 two
  - 127.0.0.1:{r1}:1 three
"""),
    ("one server only, with a tag and a hash", "r", """
alpha:
  listen: 127.0.0.1:{p0}
  redis: true
  hash: crc32
  hash_tag: "[]"
  servers:
  - 127.0.0.1:{r2}:7
"""),
    ("a sharp sign, a dash, a colon inside of words", "rr", """
a#b:
  listen: 127.0.0.1:{p0}
  redis: true
  servers:
  - 127.0.0.1:{r0}:1 #one
  - 127.0.0.1:{r1}:1 two#2
-x:y:
  listen: 127.0.0.1:{p1}
  redis: true
  servers:
  - 127.0.0.1:{r2}:1 -a
  - 127.0.0.1:{r1}:1 ?b
"""),
)

# What nutcracker refuses and so do we; the line that is told, 0: none.
BAD = (
    ("", 0), ("# nothing\n", 0), ("alpha\n", 1), ("- a\n- b\n", 1), ("alpha: beta\n", 1),
    ("a:\n", 1), ("a:\nb:\n  listen: 127.0.0.1:1\n", 1),
    ("a:\n  listen: 127.0.0.1:1\n", 1),
    ("a:\n  - 127.0.0.1:1:1\n", 2), ("a:\n  servers:\n   - h:1:1\n", 1),
    ("a:\n  listen: 127.0.0.1:1\n  servers: h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   -\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n   - ''\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  servers: [h:1:1]\n", 3),
    ("a: {listen: 127.0.0.1:1}\n", 1),
    ("a:\n  listen: 127.0.0.1:1\n  hash_tag: {}\n  servers:\n   - h:1:1\n", 3),
    ("---\na:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n", 1),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n...\n", 5),
    ("%YAML 1.1\na:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n", 1),
    ("a: &x\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n", 1),
    ("a:\n  listen: *x\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: !!str 127.0.0.1:1\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n  more:\n   - x\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n  servers:\n   - h:2:1\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  hash: md5\n  hash: md5\n  servers:\n   - h:1:1\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  foo: 1\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  timeout:\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  timeout: soon\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  timeout: -1\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  redis: maybe\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  hash: sha1\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  distribution: ring\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  hash_tag: abc\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  server_connections: 0\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n  redis_auth: x\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:0\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: 127.0.0.1\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: :1\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: /x 1777\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:0\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:x:1\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1  two\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1 t w\n", 4),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n   - h:1:2\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n   h:2:1\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n  - h:2:1\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n     - h:2:1: x\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n   hash: md5\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n hash: md5\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: 127.0.0.1:1\n\thash: md5\n  servers:\n   - h:1:1\n", 3),
    ("a:\n  listen: '127.0.0.1:1\n  servers:\n   - h:1:1\n", 5),
    ("a:\n  listen: '127.0.0.1:1' x\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: \"127.0.0.1:1\\q\"\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: @x\n  servers:\n   - h:1:1\n", 2),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\na:\n  listen: 127.0.0.1:2\n  servers:\n   - h:1:1\n", 5),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\nb:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n", 5),
    ("a:\n  listen: 127.0.0.1:1\x07\n  servers:\n   - h:1:1\n", 2),
    (b"a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1 \xff\xfe\n", 4),
)

# What nutcracker takes, and we refuse, knowing why.
REFUSED = (
    ("a:\n  listen: |-\n    127.0.0.1:1\n  servers:\n   - h:1:1\n", 2, "block scalars"),
    ("? a\n: listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n", 1, "? key"),
    ("a:\n  listen: 127.0.0.1:1\n  timeout: 4294967297\n  servers:\n   - h:1:1\n", 3, "out of range"),
    ("a:\n  listen: /x abc\n  servers:\n   - h:1:1\n", 2, "permission"),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - :1:1\n", 4, "address"),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - 'h:1:1 '\n", 4, "empty name"),
    ("a:\n  listen: 127.0.0.1:1\n  servers:\n   - \"h:1:1 a\\0b\"\n", 4, "a NUL"),
    ("a:\n  listen: 127.0.0.1:1\n  redis: true\n  redis_db: 2\n  servers:\n   - h:1:1\n   - /s:1\n", 4, "database 0"),
)
