#!/usr/bin/env bash
# `ocelli run` on a camera, in a virtual machine: the kernel's own virtual camera, vivid, is a module of Debian's kernel.
#
#   tests/camera.sh [OCELLI]
#
# Needs qemu-system-x86_64, cpio, kmod and a static busybox, and Debian's package archive for the kernel (70 MB, once, kept in
# ~/.cache/ocelli-vivid):   apt-get install --no-install-recommends qemu-system-x86 cpio kmod busybox-static
# Without them it says so and ends with 0. Half a minute; all is emulated, so frames are seconds apart and most are dropped.
set -euo pipefail
cd "$(dirname "$0")/.."
ocelli=${1:-${CARGO_TARGET_DIR:-target}/release/ocelli}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ocelli-vivid

for tool in qemu-system-x86_64 cpio depmod modprobe apt-get dpkg; do
    command -v "$tool" > /dev/null || { echo "skipped: no $tool"; exit 0; }
done
busybox=$(command -v busybox) && ! ldd "$busybox" > /dev/null 2>&1 || { echo "skipped: no static busybox"; exit 0; }
[ "$(uname -m)" = x86_64 ] || { echo "skipped: for x86-64"; exit 0; }

if [ ! -d "$cache" ]; then
    kernel=$( { apt-cache depends linux-image-amd64 2> /dev/null || true; } | awk '/Depends:/ && !n++ { print $2 }')
    # Whole or not at all: an unpacking that was broken off leaves no cache.
    part=$cache.part
    rm -rf "$part"
    mkdir -p "$part"
    (cd "$part" && [ -n "$kernel" ] && apt-get download -qq "$kernel" && dpkg -x "$kernel"_*.deb . && rm -f "$kernel"_*.deb) \
        || { echo "skipped: no kernel from the package archive"; exit 0; }
    version=$(ls "$part/lib/modules")
    depmod -b "$part" "$version"
    mv "$part" "$cache"
fi
version=$(ls "$cache/lib/modules")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,lib64,modules,proc,sys,dev,out}
cp "$busybox" "$root/bin/busybox"
cp "$ocelli" "$root/ocelli"
ldd "$ocelli" | awk '$3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
modprobe -d "$cache" -S "$version" --show-depends vivid | awk '$1 == "insmod" { print $2 }' | while read -r module; do
    cp "$module" "$root/modules/"
    basename "$module" >> "$root/modules/order"
done
# What ocelli says comes out between marks: the console has the kernel's own lines, too.
cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r module; do
    options=; [ "$module" = vivid.ko ] && options="n_devs=1 node_types=0x1 no_error_inj=1"
    insmod "/modules/$module" $options
done < /modules/order
echo
/ocelli run /dev/video0 --max-frames 5 --phrase "a bar" --caption --annotate /out --json --quiet > /lines; echo "@code $?"
sed 's/^/@line /' /lines
for drawn in /out/*; do echo "@drawn $drawn"; done
/ocelli run /dev/video7 --json 2> /absent; echo "@absent $? $(cat /absent)"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initrd.gz"

wrong() { echo "camera: $*" >&2; cat "$work/console" >&2; exit 1; }
timeout 300 qemu-system-x86_64 -cpu max -m 1500 -smp 2 -nographic -no-reboot -kernel "$cache/boot/vmlinuz-$version" -initrd "$work/initrd.gz" \
    -append "console=ttyS0 quiet panic=-1" < /dev/null 2>&1 | tr -d '\r' | sed 's/\x1b[^A-Za-z]*[A-Za-z]//g; s/\x1bc//g' > "$work/console" \
    || wrong "the virtual machine did not end as it should"

grep -q '^@code 0$' "$work/console" || wrong "run did not end with 0"
grep -q '^@absent 2 .*no such camera' "$work/console" || wrong "an absent camera is not said to be"
[ "$(grep -c '^@drawn /out/video0-' "$work/console")" -eq 5 ] || wrong "not five annotated pictures"
# Five frames in the order of their capture; every frame between two of them counts as dropped.
sed -n 's/^@line .*"type":"frame".*"sequence":\([0-9]*\),.*"captured_at_ms":\([0-9.]*\),.*"dropped":\([0-9]*\),.*"caption":.*/\1 \2 \3/p' "$work/console" \
    | awk '{ if (NR > 1 && ($1 != last + 1 + $3 || $2 <= time)) exit 1; last = $1; time = $2; n = NR } END { exit n != 5 }' \
    || wrong "frames are not in order, or drops are not counted"
echo "camera: five frames of a virtual camera, in order, dropped ones counted, annotated; an absent camera is named"
