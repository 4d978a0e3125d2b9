# shellcheck shell=bash
# Completion of puzzlefs for bash: subcommands, options, and values where there are few.

_puzzlefs_options() {
  local -A options=(
    [build]="--base-layer --compression --threads --format"
    [push]="--authfile --plain-http --tls-ca --format"
    [pull]="--authfile --plain-http --tls-ca --format"
    [mount]="--foreground --options --writable --persist --init-pipe --cache-dir --authfile
      --plain-http --tls-ca --on-outage --log-file --digest --require-fs-verity"
    [umount]="--lazy"
    [extract]="--cache-dir --authfile --plain-http --tls-ca --on-outage"
    [tags]="--authfile --plain-http --tls-ca --format"
    [digest]="--authfile --plain-http --tls-ca --format"
    [delete]="--authfile --plain-http --tls-ca"
    [inspect]="--cache-dir --authfile --plain-http --tls-ca --format"
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
  COMPREPLY=()
  case $previous in
    --format) words="text json" ;;
    --on-outage) words="fail wait" ;;
    --cache-dir | --authfile | --tls-ca | --log-file | --persist | --init-pipe) return ;;
    --threads | --options | --digest | -o | -p | -i | -d | -j) return ;;
    *)
      if [[ -z $command ]]; then
        words="build push pull enable-fs-verity mount umount extract inspect tags digest delete"
        words+=" --help --version"
      elif [[ $word == -* ]]; then
        words=$(_puzzlefs_options "$command")
      elif [[ $command == umount ]]; then
        words=$(_puzzlefs_mounts)
      fi
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

# Files where nothing of the above fits.
complete -o default -F _puzzlefs puzzlefs
