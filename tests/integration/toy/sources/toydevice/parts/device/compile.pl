# Stands for a compiler of device code: compile.pl GPU SOURCE OUTPUT
use strict;
use warnings;

my ($gpu, $source, $output) = @ARGV;
open my $in, '<', $source or die "$source: $!\n";
my $text = do { local $/; <$in> };
die "$source: no kernel in it\n" unless $text =~ /\bkernel\b/;
open my $out, '>', $output or die "$output: $!\n";
binmode $out;
print $out "\0DEVICE\0$gpu\0", unpack('%32C*', $text), "\n";
close $out or die "$output: $!\n";
