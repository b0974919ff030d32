#!/usr/bin/perl
# SPDX-License-Identifier: LGPL-2.1-or-later
# Lets the pools of 2 MiB take nearly all memory, has the kernel keep what is left in reserve, and shrinks the
# pools: there is no memory for the vmemmap of what they would give back. Then the reserve is free again.

my $FILL = "/mnt/fill/all";
my $LEFT = 150 << 10;  # kB
my $FEWER = 8;  # folios: for each, the kernel tries for a while
my $RESERVE = "/proc/sys/vm/min_free_kbytes";
my $MLOCKALL = 151;  # of <asm/unistd_64.h>
my @POOLS = map { "/sys/devices/system/node/node$_/hugepages/hugepages-2048kB/nr_hugepages" } 0, 1;

sub opened {
    my ($mode, $path) = @_;
    open(my $file, $mode, $path) or die "exhaust: $path: $!";
    return $file;
}

sub free_memory {
    my ($line) = grep { /^MemFree:/ } readline(opened("<", "/proc/meminfo"));
    return $line =~ /(\d+)/ ? $1 : 0;
}

sub size {
    return readline(opened("<", $_[0]));
}

# While nothing can be allocated, nothing is opened, and no memory is touched for the first time.
my $reserve = opened("+<", $RESERVE);
sysread($reserve, my $kept, 16);
my @pools = map { opened(">", $_) } @POOLS;
my $say = opened(">&=", 3);
my $fill = opened(">", $FILL);
my $block = "x" x (1 << 20);

sub put {
    my ($file, $words) = @_;
    sysseek($file, 0, 0);
    syswrite($file, $words);
}

sub step {
    my ($name) = @_;
    syswrite($say, "step\t$name\n");
    select(undef, undef, undef, 3);
}

put($_, 4000) for @pools;
step("all-memory");
while (free_memory() > $LEFT) {
    syswrite($fill, $block) or last;
}
syscall($MLOCKALL, 3) == 0 or die "exhaust: mlockall: $!";
my @fewer = map { size($_) - $FEWER } @POOLS;
put($reserve, 4 * $LEFT);
put($pools[$_], $fewer[$_]) for 0, 1;
put($reserve, $kept);
step("no-memory-for-a-restore");
truncate($fill, 0);
