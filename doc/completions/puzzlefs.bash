# shellcheck shell=bash
# Completion of puzzlefs for bash: subcommands, options, and values where there are few.

_puzzlefs_options() {
  local -A options=(
    [build]="--base-layer --trust-mtime --layout --compression --compression-level --timestamps --threads
      --digestfile --progress --format"
    [push]="--layout --base --authfile --plain-http --tls-ca --platform --dry-run --digestfile
      --progress --format"
    [pull]="--authfile --plain-http --tls-ca --platform --dry-run --digestfile --progress --format
      --pin --cache-dir --cache-size"
    [copy]="--authfile --plain-http --tls-ca --platform --dry-run --digestfile --progress --format"
    [convert]="--layout --compression --compression-level --threads --platform --cache-dir
      --cache-size --offline --authfile --plain-http --tls-ca --digestfile --progress --format"
    [optimize]="--trace --compression-level --threads --platform --cache-dir --cache-size --offline
      --authfile --plain-http --tls-ca --digestfile --progress --format"
    [attach]="--trace --authfile --plain-http --tls-ca --platform --digestfile --format"
    [mount]="--foreground --options --writable --persist --init-pipe --platform --cache-dir
      --cache-size --offline --authfile --plain-http --tls-ca --on-outage --log-file --digest
      --require-fs-verity --record --prefetch --background-fetch"
    [umount]="--lazy"
    [stats]="--format"
    [extract]="--platform --cache-dir --cache-size --offline --authfile --plain-http --tls-ca
      --on-outage --progress"
    [tags]="--authfile --plain-http --tls-ca --format"
    [digest]="--authfile --plain-http --tls-ca --platform --format"
    [delete]="--authfile --plain-http --tls-ca"
    [login]="--username --password-stdin --authfile --plain-http --tls-ca"
    [logout]="--authfile --all"
    [inspect]="--platform --cache-dir --cache-size --offline --authfile --plain-http --tls-ca
      --format"
    ["cache info"]="--cache-dir --cache-size --format"
    ["cache ls"]="--cache-dir --format"
    ["cache verify"]="--cache-dir --format"
    ["cache prune"]="--cache-dir --keep --format"
    ["cache pin"]="--platform --cache-dir --cache-size --offline --authfile --plain-http --tls-ca
      --progress"
    ["cache unpin"]="--cache-dir"
  )
  echo "${options[$1]:-} --help --verbose --version"
}

# _puzzlefs_mounts: the mount points that there are.
_puzzlefs_mounts() {
  awk '$3 == "fuse.puzzlefs" { print $2 }
       $3 == "fuse.puzzlefs.lower" { sub(/\/ro$/, "", $2); print $2 }' /proc/self/mounts
}

_puzzlefs() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command='' words=''
  if ((COMP_CWORD > 1)); then command=${COMP_WORDS[1]}; fi
  if [[ $command == cache ]] && ((COMP_CWORD > 2)); then command+=" ${COMP_WORDS[2]}"; fi
  COMPREPLY=()
  case $previous in
    --format) words="text json" ;;
    --progress) words="auto plain none" ;;
    --platform) words="linux/amd64 linux/arm64" ;;
    --on-outage) words="fail wait" ;;
    --layout) if [[ $command == push ]]; then words="packed keep"; else words="chunked packed"; fi ;;
    --timestamps) words="keep clamp zero" ;;
    --cache-dir | --authfile | --tls-ca | --log-file | --digestfile | --persist | --init-pipe | \
      --trace | --record | --prefetch) return ;;
    --cache-size | --keep | --compression-level) return ;;
    --threads | --options | --digest | --username | -o | -p | -i | -d | -j | -u) return ;;
    *)
      if [[ -z $command ]]; then
        words="build push pull copy convert optimize attach enable-fs-verity mount umount stats trace extract"
        words+=" inspect tags digest delete login logout cache --help --version"
      elif [[ $command == cache ]]; then
        words="info ls verify prune pin unpin --help --verbose --version"
      elif [[ $word == -* ]]; then
        words=$(_puzzlefs_options "$command")
      elif [[ $command == umount || $command == stats || $command == trace ]]; then
        words=$(_puzzlefs_mounts)
      fi
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

# Files where nothing of the above fits.
complete -o default -F _puzzlefs puzzlefs
