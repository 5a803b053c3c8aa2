# Completion of mcpchat for bash 4 and newer: eval "$(mcpchat completion bash)"
_mcpchat() {
  local words=() current line word breaks=""
  # Words as mcpchat sees them: neither = nor : ends one, which for readline they may do.
  [[ "$COMP_WORDBREAKS" == *=* ]] && breaks+="="
  [[ "$COMP_WORDBREAKS" == *:* ]] && breaks+=":"
  local before="${COMP_LINE:0:COMP_POINT}"
  read -r -a words <<< "$before"
  [[ "$before" == *[[:space:]] ]] && words+=("")
  current="${words[${#words[@]}-1]}"
  COMPREPLY=()
  local stem=""
  [[ -n "$breaks" && "$current" == *["$breaks"]* ]] && stem="${current%"${current##*["$breaks"]}"}"
  while IFS=$'\t' read -r word line; do
    if [[ "$word" == FILES ]]; then
      local file part="${current##*[=@]}"
      [[ "$current" == *=* ]] || part="$current"
      compopt -o filenames 2>/dev/null
      while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$part")
    else
      COMPREPLY+=("${word#"$stem"}")
      [[ "$word" == *= ]] && compopt -o nospace 2>/dev/null
    fi
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _mcpchat mcpchat
