#!/usr/bin/perl
# SPDX-License-Identifier: LGPL-2.1-or-later
# Maps folios of 2 MiB, faults them in, moves them between two nodes, and gives them back, for ever.
# System calls by number, because perl-base comes without the modules that know their names.

my ($READ, $MMAP, $MUNMAP, $MADVISE, $MBIND) = (0, 9, 11, 28, 237);
my $READ_WRITE = 3;              # PROT_READ | PROT_WRITE
my $HUGETLB = 0x22 | 0x40000;    # MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
my $DONTNEED = 4;                # MADV_DONTNEED
my ($BIND, $MOVE) = (2, 2);      # MPOL_BIND, MPOL_MF_MOVE
my $SIZE = 2 << 20;

srand($ARGV[0]);
open(my $zero, "<", "/dev/zero") or die "churn: /dev/zero: $!";
my @node = (pack("Q", 1), pack("Q", 2));

while (1) {
    my $count = 1 + int(rand(40));
    my $start = syscall($MMAP, 0, $count * $SIZE, $READ_WRITE, $HUGETLB, -1, 0);
    next if $start == -1;        # the pool is too small just now
    for my $index (0 .. $count - 1) {
        # A write by the kernel faults the folio in, and fails where a write here would be killed.
        syscall($READ, fileno($zero), $start + $index * $SIZE, 1);
    }
    my $to = int(rand(2));
    syscall($MBIND, $start, $count * $SIZE, $BIND, $node[$to], 64, $MOVE);
    syscall($MADVISE, $start, int(rand($count)) * $SIZE, $DONTNEED) if rand() < 0.5;
    syscall($MBIND, $start, $count * $SIZE, $BIND, $node[1 - $to], 64, $MOVE);
    syscall($MUNMAP, $start, $count * $SIZE);
}
