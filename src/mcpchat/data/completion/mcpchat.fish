# Completion of mcpchat for fish: mcpchat completion fish > ~/.config/fish/completions/mcpchat.fish
function __mcpchat_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        if string match -q -- 'FILES*' $line
            __fish_complete_path (string replace -r -- '^.*=@' '' "$current")
        else
            echo $line
        end
    end
end
complete -c mcpchat -f -a '(__mcpchat_complete)'
