#!/usr/bin/perl
# SPDX-License-Identifier: LGPL-2.1-or-later
# Maps folios of 2 MiB, faults them in, and holds them: hold.pl COUNT [FILE]; without a file, anonymous ones.
# System calls by number, because perl-base comes without the modules that know their names.

my ($READ, $MMAP) = (0, 9);
my $READ_WRITE = 3;              # PROT_READ | PROT_WRITE
my $HUGETLB = 0x22 | 0x40000;    # MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
my $SHARED = 1;                  # MAP_SHARED
my $SIZE = 2 << 20;

my ($count, $path) = @ARGV;
open(my $zero, "<", "/dev/zero") or die "hold: /dev/zero: $!";
my ($flags, $number, $file) = ($HUGETLB, -1);
if (defined $path) {
    sysopen($file, $path, 0102) or die "hold: $path: $!";    # O_RDWR | O_CREAT
    ($flags, $number) = ($SHARED, fileno($file));
}
my $start = syscall($MMAP, 0, $count * $SIZE, $READ_WRITE, $flags, $number, 0);
die "hold: mmap: $!" if $start == -1;
# A write by the kernel faults a folio in, and fails where a write here would be killed.
syscall($READ, fileno($zero), $start + $_ * $SIZE, 1) for 0 .. $count - 1;
sleep 1000 while 1;
