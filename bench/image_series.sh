#!/usr/bin/env bash
# image_series.sh DIR: seven states of a Debian 12 tree, DIR/1 to DIR/7, as an image goes through
# them: packages are added, updated and removed, Python packages come in several versions. What a
# state has from the one before it is the same file to the byte, times included.
set -euo pipefail

readonly series=$1

# pip of this machine puts packages there for the tree's Python; bytecode would differ at each run.
python_packages() {
  local tree=$1
  shift
  rm -rf "$tree/opt/python"
  pip install --quiet --no-compile --only-binary :all: --python-version 3.11 \
    --target "$tree/opt/python" "$@"
}

packages() {
  local tree=$1
  shift
  DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get -qq "$@" >>"$series/log" 2>&1
  chroot "$tree" apt-get -qq clean
}

# next N: state N as a copy of the one before it.
next() {
  echo "State $1…" >&2
  rm -rf "$series/partial"
  cp -a "$series/$(($1 - 1))" "$series/partial"
}

done_with() {
  mv "$series/partial" "$series/$1"
}

make_first() {
  debootstrap --variant=minbase bookworm "$series/partial" >>"$series/log" 2>&1
  packages "$series/partial" update
  packages "$series/partial" install --no-install-recommends ca-certificates python3
  done_with 1
}

make_rest() {
  local tree=$series/partial
  next 2
  python_packages "$tree" numpy==1.25.0 requests==2.28.2
  done_with 2
  next 3
  packages "$tree" install --no-install-recommends git nginx-light
  python_packages "$tree" numpy==1.25.2 requests==2.31.0 flask==2.3.3
  done_with 3
  next 4
  python_packages "$tree" numpy==1.26.4 requests==2.31.0 flask==3.0.3 pandas==2.2.2
  done_with 4
  next 5
  packages "$tree" remove --autoremove git
  packages "$tree" install --no-install-recommends gcc libc6-dev
  python_packages "$tree" numpy==1.26.4 requests==2.32.3 flask==3.0.3 pandas==2.2.3
  done_with 5
  next 6
  packages "$tree" install --no-install-recommends nodejs
  python_packages "$tree" numpy==2.0.2 requests==2.32.3 flask==3.1.0 pandas==2.2.3
  done_with 6
  next 7
  packages "$tree" remove --autoremove gcc nginx-light
  python_packages "$tree" numpy==2.1.3 requests==2.32.3 flask==3.1.0
  done_with 7
}

[[ -d $series/7 ]] && exit
rm -rf "$series"
mkdir -p "$series"
make_first
make_rest
