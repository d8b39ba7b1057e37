# What the scripts in Perl print: a line for each step, what was done and what came back.
#
#     perl redis_perl.pl PORT direct|proxy
#
# The same script is run against one server and through the proxy; the lines must be equal.
package Transcript;
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use Exporter 'import';
our @EXPORT = qw($port big kind refused show step);
our ($port, $mode) = @ARGV;
$| = 1;

sub big {                               # bytes of every value, always the same
    return substr((join('', map { chr } 0 .. 255) . "\r\nEND\r\n") x ($_[0] / 256 + 1), 0, $_[0]);
}

sub show {
    my ($value) = @_;
    return 'undef' unless defined $value;
    return '[' . join(', ', map { show($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(', ', map { "$_: " . show($value->{$_}) } sort keys %$value) . '}' if ref $value eq 'HASH';
    return length($value) . ' bytes, ' . sha1_hex($value) if length $value > 100;
    return $value =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ger;
}

sub kind {                              # what kind of message
    my ($message) = @_;
    $message =~ s/^\[\w+\] //;
    return 'error: ' . join ' ', grep { defined } (split /[\s,]+/, $message)[0 .. 2];
}

sub told { print "$_[0]: $_[1]\n" }

sub step {
    my ($name, $work) = @_;
    my $value = eval { $work->() };
    told($name, $@ ? kind($@) : show($value));
    return $value;
}

# The proxy refuses this by design, and says so; a server alone is not asked.
sub refused {
    my ($name, $work, $alive) = @_;
    my $said = 'refused';
    if ($mode eq 'proxy') {
        my $value = eval { $work->() };
        $said = !$@ ? 'NOT REFUSED: ' . show($value) : "REFUSED OTHERWISE: $@" if $@ !~ /not served by this proxy/;
    }
    told($name, $said);
    step("after $name", $alive);
}

1;
