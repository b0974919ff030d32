# SPDX-License-Identifier: LGPL-2.1-or-later

import contextlib
import mmap
from pathlib import Path

from drgn import sizeof
from drgn.helpers.linux.hugetlb import for_each_hstate, huge_page_size
from drgn.helpers.linux.hugetlb_vmemmap import (
    for_each_hugetlb_page,
    hugetlb_page_vmemmap_freed,
    hugetlb_page_vmemmap_optimized,
    hugetlb_page_vmemmap_pfns,
)
from drgn.helpers.linux.mm import PageHead
from tests.linux_kernel import LinuxKernelTestCase, skip_unless_have_full_mm_support

NR_HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
OPTIMIZE_VMEMMAP = Path("/proc/sys/vm/hugetlb_optimize_vmemmap")


@contextlib.contextmanager
def sysctl(path, value):
    old = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(old)


class TestHugetlbVmemmap(LinuxKernelTestCase):
    def setUp(self):
        super().setUp()
        if not NR_HUGEPAGES.exists():
            self.skipTest("kernel does not have HugeTLB")

    def hstate(self):
        # Of the default size, which is the one of /proc/sys/vm.
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("Hugepagesize:"):
                size = int(line.split()[1]) * 1024
        for hstate in for_each_hstate(self.prog):
            if huge_page_size(hstate) == size:
                return hstate
        self.fail("hstate of default size not found")

    def vmemmap_pages(self, hstate):
        return (
            sizeof(self.prog.type("struct page")) * huge_page_size(hstate).value_()
        ) // mmap.PAGESIZE**2

    def test_for_each_hugetlb_page(self):
        with sysctl(NR_HUGEPAGES, "4"):
            for hstate in for_each_hstate(self.prog):
                pages = list(for_each_hugetlb_page(hstate))
                self.assertEqual(len(pages), hstate.nr_huge_pages)
                self.assertTrue(all(PageHead(page) for page in pages))

    def _test_optimized(self, optimize):
        hstate = self.hstate()
        with sysctl(OPTIMIZE_VMEMMAP, optimize), sysctl(NR_HUGEPAGES, "4"):
            pages = list(for_each_hugetlb_page(hstate))
            self.assertTrue(pages)
            for page in pages:
                yield page, self.vmemmap_pages(hstate)

    @skip_unless_have_full_mm_support
    def test_optimized(self):
        if not OPTIMIZE_VMEMMAP.exists():
            self.skipTest("kernel does not have HVO")
        for page, count in self._test_optimized("1"):
            self.assertTrue(hugetlb_page_vmemmap_optimized(page))
            self.assertEqual(len(hugetlb_page_vmemmap_pfns(page)), count)
            # All but the first page, or, before Linux 5.18, but the first two.
            self.assertIn(hugetlb_page_vmemmap_freed(page), (count - 1, count - 2))

    @skip_unless_have_full_mm_support
    def test_not_optimized(self):
        if not OPTIMIZE_VMEMMAP.exists():
            self.skipTest("kernel does not have HVO")
        for page, count in self._test_optimized("0"):
            self.assertFalse(hugetlb_page_vmemmap_optimized(page))
            self.assertEqual(len(set(hugetlb_page_vmemmap_pfns(page))), count)
            self.assertEqual(hugetlb_page_vmemmap_freed(page), 0)
