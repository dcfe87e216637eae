# What Debian asks of packages, without what cannot hold for a vendor's packages:
# they live below /opt, are compressed with zstd (Debian's archive does not take it yet) and close no bugs.
Profile: rocmbuild/main
Extends: debian/main
Disable-Tags:
 dir-or-file-in-opt
 initial-upload-closes-no-bugs
 malformed-deb-archive
