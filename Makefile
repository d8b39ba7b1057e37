# make              nutproxy, one static binary, from Debian's musl-tools and libinih-dev
# make run          install what is missing (as root), build, and show it at work
# make bench        install what is missing (as root), build, and measure it beside others: a short table, 3 to 4 minutes
# make bench-full   the same with everything, 20 to 25 minutes; writes bench/RESULTS.md and bench/plots
# make test         ./test.sh: install what is missing (as root), build everything, test it
# make fuzz         fuzz each target of tests/fuzz in turn for FUZZ_SECONDS (60), or TARGET alone, or several of them
# make install      to $(DESTDIR)$(PREFIX)/sbin
# make build/debug  with the system's compiler and libc, for debuggers
# make build/asan   the same under the address and undefined-behaviour sanitizers
# make build/tsan   the same under the thread sanitizer
# make sim SEEDS=n  play n histories on a simulated system: see tests/sim/sim.c
# make clean

PREFIX  = /usr/local
CFLAGS  = -Oz -g
WARN    = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla
HARDEN  = -fPIE -fstack-protector-strong
SMALL   = -ffunction-sections -fdata-sections -Wl,--gc-sections -fno-asynchronous-unwind-tables -Wl,-z,noseparate-code
TRIM    = -fipa-pta -fno-caller-saves -fno-tree-dominator-opts -fno-jump-tables -fno-tree-loop-optimize \
          -fno-tree-tail-merge -fno-move-loop-invariants                                  # 1.4 KB, and as quick
MUSLCC  = musl-gcc
MULTI  := $(shell gcc -print-multiarch 2>/dev/null)
INIH    = /usr/lib/$(MULTI)/libinih.a
MUSL    = $(firstword $(wildcard /usr/lib/$(MULTI:gnu=musl)) /usr/lib/musl/lib)
C       = -std=c11 $(CFLAGS) $(WARN)

# musl-gcc's specs know no -static-pie, so the start files are named here.
STATIC  = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,--hash-style=gnu,-z,text,-z,relro,-z,now,-z,noexecstack $(UNASKED)
# inih could open a file itself, and let a line grow.  It is asked for neither: what it would call, 3.4 KB, stays out.
UNASKED = -Wl,--defsym=fopen64=abort,--defsym=fclose=abort,--defsym=realloc=abort
BEGIN   = $(MUSL)/rcrt1.o $(MUSL)/crti.o $(shell gcc -print-file-name=crtbeginS.o 2>/dev/null)
END     = $(shell gcc -print-file-name=crtendS.o 2>/dev/null) $(MUSL)/crtn.o
LINK    = $(MUSLCC) $(C) $(HARDEN) $(SMALL) $(TRIM) -Ibuild/include $(EXTRA) $(STATIC) $(BEGIN) nutproxy.c $(INIH) $(END)
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SOURCE  = nutproxy.c nutproxy.h

nutproxy: $(SOURCE) build/include/ini.h
	$(LINK) -o $@
	@strip -R .comment -o build/stripped $@ && printf 'nutproxy: %s bytes stripped\n' "$$(wc -c < build/stripped)"

build/poll: $(SOURCE) build/include/ini.h
	$(LINK) -DNUT_POLL -o $@

build/debug: $(SOURCE) build/include/ini.h
	cc $(C) -O0 -o $@ nutproxy.c $(INIH) -lpthread

build/asan: $(SOURCE) build/include/ini.h
	cc $(C) $(SANITIZE) -o $@ nutproxy.c $(INIH) -lpthread

build/tsan: $(SOURCE) build/include/ini.h
	cc $(C) -O1 -g -fsanitize=thread -fno-omit-frame-pointer -o $@ nutproxy.c $(INIH) -lpthread

# Every 23rd request for memory is denied: all answers must still be right, or errors.
build/torture: $(SOURCE) build/include/ini.h
	cc $(C) $(SANITIZE) -DNUT_DENY=23 -o $@ nutproxy.c $(INIH) -lpthread

build/proofs: $(SOURCE) tests/proofs.c build/include/ini.h
	cc $(C) $(SANITIZE) -Wno-unused-function -DNUT_PROOFS -I. -o $@ tests/proofs.c $(INIH) -lpthread

build/route: $(SOURCE) tests/route.c build/include/ini.h
	cc $(C) -Wno-unused-function -I. -o $@ tests/route.c $(INIH)

build/counted: $(SOURCE) tests/counted.c build/include/ini.h
	cc $(C) -I. -o $@ tests/counted.c $(INIH) -lpthread

# All of nutproxy on a simulated system.  What it calls that is not simulated stops the build.
SIM   = $(addprefix tests/sim/,under.c kernel.c truth.c servers.c clients.c history.c)
SIMH  = tests/sim/sim.h tests/sim/kernel.h
SEEDS = 1000
FROM  = 1

build/under.o: $(SOURCE) tests/sim/under.c $(SIMH) build/include/ini.h
	cc $(C) -O1 -fno-stack-protector -Wno-unused-function -I. -c tests/sim/under.c -o $@
	@sh tests/sim/outside.sh $@

build/sim: $(SOURCE) $(SIM) $(SIMH) tests/sim/sim.c build/under.o
	cc $(C) $(SANITIZE) -Wno-unused-function -D_GNU_SOURCE -I. -o $@ $(SIM) tests/sim/sim.c $(INIH)

# NULL + 0, which is what text that is not there is read by, is no mistake that anything comes of.
build/fuzz-conversation: $(SOURCE) $(SIM) $(SIMH) tests/fuzz/conversation.c build/under.o
	clang $(C) $(SANITIZE) -fsanitize=fuzzer -fno-sanitize=pointer-overflow -Wno-unused-function -D_GNU_SOURCE -I. -Itests/sim -o $@ $(SIM) \
	    tests/fuzz/conversation.c $(INIH)

sim: build/sim
	build/sim -from $(FROM) -n $(SEEDS)

# What a request costs without the kernel, compiled as the product is: see bench/count.sh.
build/instructions: $(SOURCE) bench/instructions.c build/include/ini.h
	$(MUSLCC) $(C) $(HARDEN) $(SMALL) $(TRIM) -Wno-unused-function -DNUT_PROOFS -I. -Ibuild/include $(STATIC) $(BEGIN) \
	    bench/instructions.c $(INIH) $(END) -o $@

# A target of libFuzzer, which includes nutproxy.c: see tests/fuzz/fuzz.h.
build/fuzz-%: tests/fuzz/%.c $(wildcard tests/fuzz/*.h) $(SOURCE) /usr/include/ini.h
	@mkdir -p build
	clang -std=c11 $(SANITIZE) -fsanitize=fuzzer $(WARN) -Wno-unused-function -Wno-unused-const-variable -I. -o $@ $< \
	    $(INIH) -lpthread

# Only inih's header is taken from the system: the rest of that folder belongs to another libc.
build/include/ini.h: /usr/include/ini.h
	@command -v $(MUSLCC) >/dev/null || { echo "$(MUSLCC) is missing: apt-get install musl-tools" >&2; exit 1; }
	@mkdir -p build/include && cp /usr/include/ini.h $@

/usr/include/ini.h:
	@echo "inih is missing: apt-get install libinih-dev (and musl-tools)" >&2; exit 1

run:
	@sh tests/install.sh gcc musl-tools libinih-dev redis-server redis-tools memcached
	@$(MAKE) --no-print-directory nutproxy
	@bash contrib/demo.sh

BENCH = gcc libc6-dev musl-tools libinih-dev binutils mount python3 redis-server memcached nutcracker haproxy

bench:
	@sh tests/install.sh $(BENCH)
	@$(MAKE) --no-print-directory nutproxy
	@/usr/bin/python3 bench/run.py short

bench-full:
	@sh tests/install.sh $(BENCH) gnuplot-nox
	@$(MAKE) --no-print-directory nutproxy
	@/usr/bin/python3 bench/run.py full

test:
	./test.sh

FUZZ_SECONDS = 60
TARGET       =

fuzz:
	@sh tests/install.sh gcc clang libclang-rt-14-dev libc6-dev libinih-dev
	@sh tests/fuzz/run.sh $(FUZZ_SECONDS) $(TARGET)

install: nutproxy
	install -D -m 755 build/stripped $(DESTDIR)$(PREFIX)/sbin/nutproxy

clean:
	rm -rf build nutproxy

.PHONY: run bench bench-full test fuzz install clean
