#!/usr/bin/perl
# SPDX-License-Identifier: LGPL-2.1-or-later
# Shrinks the pools of 2 MiB when no memory is free for the vmemmap of what they give back, says so, and
# gives the memory back. From there on it starts no process, as none could be started.

my $FILL = "/mnt/fill/all";
my @pools = map { "/sys/devices/system/node/node$_/hugepages/hugepages-2048kB/nr_hugepages" } 0, 1;

sub put {
    my ($path, $words) = @_;
    open(my $file, ">", $path) or return;
    syswrite($file, $words);
}

# Processes that the kernel may kill for what little memory it needs meanwhile.
sub spare {
    my $pid = fork();
    return $pid if $pid != 0;
    put("/proc/self/oom_score_adj", 500);
    my $memory = "x" x (2 << 20);
    sleep 1000 while 1;
}
my @spares = map { spare() } 1 .. 20;
sleep 2;

# What a killed process wrote to a tmpfs stays.
put("/proc/self/oom_score_adj", -1000);
if (fork() == 0) {
    put("/proc/self/oom_score_adj", 1000);
    exec("dd", "if=/dev/zero", "of=$FILL", "bs=64k");
}
wait();

for my $count (250, 200, 150, 100) {
    put($_, $count) for @pools;
}
open(my $say, ">&=", 3);
syswrite($say, "step\tno-memory-for-a-restore\n");
select(undef, undef, undef, 3);
truncate($FILL, 0);
kill("KILL", @spares);
