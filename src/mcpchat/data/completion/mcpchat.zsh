#compdef mcpchat
# Completion of mcpchat for zsh: eval "$(mcpchat completion zsh)", or save it as _mcpchat in a folder of fpath.
_mcpchat() {
  local line word told files=0
  local -a shown open shown_open given
  given=("${(@Q)words[2,CURRENT]}")
  local -a plain
  while IFS=$'\t' read -r word told; do
    if [[ "$word" == FILES ]]; then
      files=1
    elif [[ "$word" == *= ]]; then
      open+=("$word"); shown_open+=("$word${told:+  -- $told}")
    else
      plain+=("$word"); shown+=("$word${told:+  -- $told}")
    fi
  done < <("${words[1]}" __complete "${given[@]}" 2>/dev/null)
  (( ${#plain} )) && compadd -l -d shown -a plain
  (( ${#open} )) && compadd -S '' -l -d shown_open -a open
  if (( files )); then
    compset -P '*=@'
    _files
  fi
}
if [[ "${funcstack[1]}" == _mcpchat ]]; then
  _mcpchat "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
  compdef _mcpchat mcpchat
fi
