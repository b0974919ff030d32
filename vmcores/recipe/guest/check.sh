# SPDX-License-Identifier: LGPL-2.1-or-later
# Another scenario's script, $setup; then the guest checks itself with the tool: $check is the command,
# with commas between its words.
. "/$setup"
export PATH=$PATH:/usr/bin
python3 /drgn_vmemmap -k --no-default-symbols $(echo "$check" | tr , ' ') > /tmp/output 2> /tmp/errors
code=$?
# A bar before each line keeps the blanks that it begins with.
for stream in output errors; do
	while IFS= read -r line; do say $stream "|$line"; done < /tmp/$stream
done
say checked $code
