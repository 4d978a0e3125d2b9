# shellcheck shell=bash disable=SC2154  # lib.sh has the variables
# A small virtual machine with a kernel of Debian's, for what the kernel of this machine may lack:
# sourced after lib.sh by the scenarios that need it. No root, no /dev/kvm and no loop device: qemu
# emulates the processor, busybox is the system, and the kernel is unpacked from its package, which is
# kept in $E2E_KERNEL.
PATH=$PATH:/usr/sbin:/sbin

readonly kernel_store=${E2E_KERNEL:-$project/build/kernel}
readonly initrd=$work/initrd

skip() {
  echo "Skipped: $*" >&2
  exit 77
}

kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1 || true
}

# fetch_kernel: into $kernel_store, unless it is there.
fetch_kernel() {
  local package tool
  for tool in qemu-system-x86_64 busybox fsverity depmod cpio mkfs.ext4 debugfs; do
    command -v "$tool" >/dev/null || skip "needs $tool for a virtual machine, see packages.txt."
  done
  exec {kernel_lock}>"$kernel_store.lock"
  flock "$kernel_lock"
  if [[ ! -e $kernel_store/complete ]]; then
    # In a container apt often has no lists.
    package=$(kernel_package)
    [[ -n $package ]] || { apt-get update -q >/dev/null 2>&1 && package=$(kernel_package); } || true
    [[ -n $package ]] || skip "apt knows no package linux-image-cloud-amd64, the kernel to test with."
    rm -rf "$kernel_store"
    mkdir -p "$kernel_store"
    (cd "$kernel_store" && apt-get download -q "$package" >/dev/null 2>&1) ||
      skip "$package, the kernel to test with, cannot be downloaded."
    dpkg-deb -x "$kernel_store"/*.deb "$kernel_store"
    rm "$kernel_store"/*.deb
    depmod -b "$kernel_store" "$(kernel_version)"
    touch "$kernel_store/complete"
  fi
  flock -u "$kernel_lock"
}

kernel_version() {
  basename "$kernel_store"/boot/vmlinuz-* | sed 's/^vmlinuz-//'
}

# add_program FILE: with its shared libraries, as /bin/NAME. What debuggers need of it would fill the
# machine's memory.
add_program() {
  local library
  strip --strip-debug -o "$initrd/bin/$(basename "$1")" "$1"
  while read -r library; do
    mkdir -p "$initrd$(dirname "$library")"
    cp -Ln "$library" "$initrd$library"
  done < <(ldd "$1" | grep -o '/[^ ]*')
}

# add_module NAME: with those it needs, in the order to load them. Those built in need nothing.
add_module() {
  local file
  while read -r file; do
    [[ ! -e $initrd/modules/$(basename "$file") ]] || continue
    cp "$file" "$initrd/modules/"
    basename "$file" >>"$initrd/modules/order"
  done < <(modprobe -d "$kernel_store" -S "$(kernel_version)" --show-depends "$1" 2>/dev/null |
    awk '$1 == "insmod" { print $2 }')
}

# make_guest SCRIPT PROGRAM…: what is started in the machine, with the programs that it uses.
make_guest() {
  local script=$1 program module
  shift
  mkdir -p "$initrd"/{bin,modules,proc,sys,dev,tmp,disk,mnt}
  : >"$initrd/modules/order"
  cp "$(command -v busybox)" "$initrd/bin/"
  for program in "$@"; do add_program "$program"; done
  for module in virtio_pci virtio_blk crc32c_generic ext4 fuse; do add_module "$module"; done
  install -m 755 "$here/guest/init.sh" "$initrd/init"
  cp "$script" "$initrd/scenario.sh"
  (cd "$initrd" && find . | cpio -o -H newc --quiet) >"$work/initrd.img"
}

# run_guest DISK: boots with the disk as /dev/vda. Its console goes to stderr. Fails unless the script
# comes to its end.
run_guest() {
  # With other processors and more threads the emulation hangs now and then.
  timeout 400 qemu-system-x86_64 -machine q35 -accel tcg,thread=single -cpu max,la57=off,-cx16 \
    -smp 1 -m 512 -nographic -no-reboot -nic none \
    -kernel "$kernel_store/boot/vmlinuz-$(kernel_version)" -initrd "$work/initrd.img" \
    -drive "file=$1,format=raw,if=virtio,cache=unsafe" \
    -append "console=ttyS0 panic=-1 quiet nokaslr mitigations=off" </dev/null |
    tr -d '\r' | tee "$work/console" >&2
  grep -qx 'The guest has passed.' "$work/console" || fail "the guest has failed, see above"
}
