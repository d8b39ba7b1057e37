#!/bin/sh
# outside.sh OBJECT: what under.c's object takes from outside that can see or change more than its own memory.
# That must be nothing: what is not simulated would reach the real system, and no history could be played again.
pure="__errno_location gmtime_r localtime_r inet_pton ini_parse_stream memchr memcmp memcpy memmove memrchr memset
    qsort sigaddset sigemptyset strchr strchrnul strcmp strerror strlen strnlen strrchr _GLOBAL_OFFSET_TABLE_"
for name in $(nm -u "$1" | awk '{ print $2 }'); do
    case " $(echo "$pure" | xargs) " in
    *" $name "*) ;;
    *)  case $name in
        sim_*) ;;
        *)  echo "$name is called, and not simulated: see tests/sim/under.c"
            bad=1 ;;
        esac ;;
    esac
done
[ -z "$bad" ]
