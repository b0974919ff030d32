#!/usr/bin/perl
# SPDX-License-Identifier: LGPL-2.1-or-later
# Lets the pools of 2 MiB take all memory, and shrinks them when none is free for the vmemmap of what they
# give back; says so, and gives the memory back. Meanwhile it starts no process, as none could be started.

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

sub step {
    my ($name) = @_;
    open(my $say, ">&=", 3) or die "exhaust: $!";
    syswrite($say, "step\t$name\n");
    select(undef, undef, undef, 3);
}

my @spares = map { spare() } 1 .. 20;

# What a killed process wrote to a tmpfs stays. This one waits until the pools have their memory.
pipe(my $wait, my $go) or die "exhaust: $!";
my $filler = fork();
if ($filler == 0) {
    put("/proc/self/oom_score_adj", 1000);
    sysread($wait, my $byte, 1);
    exec("dd", "if=/dev/zero", "of=$FILL", "bs=64k");
}
sleep 2;
put("/proc/self/oom_score_adj", -1000);
put($_, 4000) for @pools;
step("all-memory");
syswrite($go, ".");
waitpid($filler, 0);
for my $count (250, 200, 150, 100) {
    put($_, $count) for @pools;
}
step("no-memory-for-a-restore");
truncate($FILL, 0);
kill("KILL", @spares);
