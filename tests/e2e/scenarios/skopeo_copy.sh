#!/usr/bin/env bash
# skopeo copies an image built here to another layout and to a registry, and from there to a layout,
# with its digest, and it mounts.
source "$(dirname "$0")/../lib.sh"

copy() {
  skopeo --insecure-policy copy --quiet --preserve-digests --src-tls-verify=false \
    --dest-tls-verify=false "$1" "$2"
}

start_registry
"$puzzlefs" build --compression "$rootfs/usr/lib" "$work/built:lib"
list_tree "$rootfs/usr/lib" >"$work/listing"

step "to another layout"
copy "oci:$work/built:lib" "oci:$work/copied:lib"
mount_image "oci:$work/copied:lib"
same_tree "$work/listing" "$mnt"
unmount

step "to a registry"
copy "oci:$work/built:lib" "docker://$registry/lib:latest"
mount_image "docker://$registry/lib"
same_tree "$work/listing" "$mnt"
unmount

step "from a registry that we pushed to"
"$puzzlefs" push "$work/built:lib" "$registry/pushed"
copy "docker://$registry/pushed:latest" "oci:$work/from_registry:lib"
mount_image "oci:$work/from_registry:lib"
same_tree "$work/listing" "$mnt"
unmount
