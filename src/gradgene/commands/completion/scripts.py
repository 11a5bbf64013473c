"""The completion scripts of three shells, from what the commands' lines may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["PATHS", "SHELLS", "Words"]

#: Last parts of keys whose values are paths.
PATHS = ("path", "file", "output_dir", "known_genes", "markers", "symbols", "cache")
#: What the value of an option of Hydra may be.
CFG = ("job", "hydra", "all")


@dataclass(frozen=True)
class Words:
    """What a line of one command may hold.

    Attributes
    ----------
    what
        The command in a line, for shells that show it.
    options, words
        Options, and words that may follow the command.
    leaves
        Group -> its leaves.
    keys
        Dotted names of single values.
    paths
        Whether words may be paths.
    """

    what: str = ""
    options: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    leaves: Mapping[str, tuple[str, ...]] | None = None
    keys: tuple[str, ...] = ()
    paths: bool = False

    @property
    def starts(self) -> list[str]:
        """How settings begin: `group=` and `section.`."""
        sections = dict.fromkeys(f"{key.partition('.')[0]}." for key in self.keys)
        return [*(f"{group}=" for group in self.leaves or ()), *sections]


Commands = Mapping[str, Words]

BASH = r"""# Completion of gradgene for bash, as printed by `gradgene completion bash`.
_gradgene() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$' \t\n'
    local word="${line##*[[:space:]]}" before="" cut="" mark="" value="" ending="" listed="" path=""
    local options="" words="" starts="" keys="" leaves="" paths="" files="" end=" "
    local found=() given=()
    read -r -a given <<< "$line"
    [[ -n $word ]] && before="${given[*]: -2:1}" || before="${given[*]: -1}"
    if (( ${#given[@]} < 2 )) || { (( ${#given[@]} == 2 )) && [[ -n $word ]]; }; then
        found=( $(compgen -W "@COMMANDS@ --help --version" -- "$word") )
    else
        case "${given[1]}" in
@CASES@
        esac
        case "$before:$word" in
            --cfg:*|-c:*) found=( $(compgen -W "@CFG@" -- "$word") ) ;;
            --config-dir:*|-cd:*) path="$word" files=yes end="" ;;
            *:-*) found=( $(compgen -W "$options" -- "$word") ) ;;
            *:*=*)
                value="${word#*=}"
                case "${word%%=*}" in
@LEAVES@
                    @PATHS@) path="$value" files=yes end="" ;;
                esac
                listed="${word%"${value##*,}"}"  # up to the last comma, in a sweep
                [[ -n $leaves ]] && found=( $(compgen -P "$listed" -W "$leaves" -- "${value##*,}") )
                ;;
            *:*.*) found=( $(compgen -S = -W "$keys" -- "$word") ) end="" ;;
            *)
                found=( $(compgen -W "$starts" -- "$word") ) end=""
                for value in $(compgen -W "$words" -- "$word"); do found+=("$value "); done
                path="$word" files="$paths"
                ;;
        esac
        if [[ -n $files ]]; then
            while IFS= read -r value; do
                [[ -n $value ]] || continue
                [[ -d $value ]] && ending="/" || ending=" "
                printf -v value "%q$ending" "$value"
                found+=("${word%"$path"}$value")
            done < <(compgen -f -- "$path")
        fi
    fi
    # Bash takes = and : for the ends of words, and replaces what follows the last of them.
    for mark in = :; do
        if [[ $COMP_WORDBREAKS == *"$mark"* && ${word#"$cut"} == *"$mark"* ]]; then
            cut="${word%"${word##*"$mark"}"}"
        fi
    done
    COMPREPLY=()
    for value in "${found[@]}"; do COMPREPLY+=("${value#"$cut"}$end"); done
}
complete -o nospace -F _gradgene gradgene"""

ZSH = r"""#compdef gradgene
# Completion of gradgene for zsh, as printed by `gradgene completion zsh`.
_gradgene() {
    local word="$PREFIX" before="${words[CURRENT-1]}" value="" listed=""
    local -a options actions starts keys leaves; local paths=""
    if (( CURRENT == 2 )); then
        compadd -- @COMMANDS@ --help --version
        return
    fi
    case "${words[2]}" in
@CASES@
    esac
    case "$before:$word" in
        --cfg:*|-c:*) compadd -- @CFG@ ;;
        --config-dir:*|-cd:*) _files -/ ;;
        *:-*) compadd -- $options ;;
        *:*=*)
            value="${word#*=}"
            case "${word%%=*}" in
@LEAVES@
                @PATHS@) compset -P '*='; _files; return ;;
            esac
            listed="${word%"${value##*,}"}"  # up to the last comma, in a sweep
            if (( $#leaves )); then compadd -- "$listed"${^leaves}; fi
            ;;
        *:*.*) (( $#keys )) && compadd -S '' -- ${^keys}= ;;
        *)
            (( $#starts )) && compadd -S '' -- $starts
            (( $#actions )) && compadd -- $actions
            ;;
    esac
    if [[ -n $paths && $word != *=* ]]; then _files; fi
}
(( $+functions[compdef] )) && compdef _gradgene gradgene"""

FISH = r"""# Completion of gradgene for fish, as printed by `gradgene completion fish`.
function __gradgene_of --description 'Whether the line is of one of these commands'
    set -l given (commandline -opc)
    test (count $given) -ge 2; and contains -- $given[2] $argv
end
function __gradgene_paths --description 'Paths after key='
    set -l word (commandline -ct)
    set -l key (string replace -r '=.*' '=' -- $word)
    set -l start (string replace -r '^[^=]*=' '' -- $word)
    for path in $start*
        test -d $path; and echo $key$path/; or echo $key$path
    end
end
complete -c gradgene -e
complete -c gradgene -n '__gradgene_of @PLAIN@; or test (count (commandline -opc)) -lt 2' -f
@COMMANDS@
@CASES@
complete -c gradgene -f -n 'string match -qr "^[a-z_.]*\\.(@PATHS@)=" -- (commandline -ct)' \
    -a '(__gradgene_paths)'"""


def bash(commands: Commands) -> str:
    """The script for bash."""
    cases = []
    for names, of in _alike(commands):
        given = {
            "options": of.options,
            "words": of.words,
            "starts": of.starts,
            "keys": of.keys,
            "paths": ("yes",) if of.paths else (),
        }
        text = " ".join(f'{name}="{" ".join(words)}"' for name, words in given.items() if words)
        cases.append(f"            {'|'.join(names)}) {text} ;;")
    leaves = [f'{group}) leaves="{" ".join(v)}" ;;' for group, v in _leaves(commands).items()]
    return _filled(
        BASH,
        COMMANDS=" ".join(commands),
        CFG=" ".join(CFG),
        CASES="\n".join(cases),
        LEAVES="\n".join(f"                    {line}" for line in leaves),
        PATHS="|".join(f"*.{last}" for last in PATHS),
    )


def zsh(commands: Commands) -> str:
    """The script for zsh."""
    cases = []
    for names, of in _alike(commands):
        given = {
            "options": of.options,
            "actions": of.words,
            "starts": of.starts,
            "keys": of.keys,
        }
        parts = [f"{name}=({' '.join(words)})" for name, words in given.items() if words]
        parts += ["paths=yes"] * of.paths
        cases.append(f"        {'|'.join(names)}) {'; '.join(parts)} ;;")
    leaves = [f"{group}) leaves=({' '.join(v)}) ;;" for group, v in _leaves(commands).items()]
    return _filled(
        ZSH,
        COMMANDS=" ".join(commands),
        CFG=" ".join(CFG),
        CASES="\n".join(cases),
        LEAVES="\n".join(f"                {line}" for line in leaves),
        PATHS="|".join(f"*.{last}" for last in PATHS),
    )


def fish(commands: Commands) -> str:
    """The script for fish, which shows what each command is for."""
    listed = [
        "complete -c gradgene -f -n 'test (count (commandline -opc)) -lt 2' "
        f"-a {name} -d {_quoted(of.what)}"
        for name, of in commands.items()
    ]
    cases = []
    for names, of in _alike(commands):
        leaves = [f"{g}={leaf}" for g, some in (of.leaves or {}).items() for leaf in some]
        for words in (of.options, of.words, leaves, [f"{key}=" for key in of.keys]):
            if words:
                cases.append(
                    f"complete -c gradgene -n '__gradgene_of {' '.join(names)}' "
                    f"-a {_quoted(' '.join(words))}"
                )
    return _filled(
        FISH,
        PLAIN=" ".join(name for name, of in commands.items() if not of.paths),
        COMMANDS="\n".join(listed),
        CASES="\n".join(cases),
        PATHS="|".join(PATHS),
    )


SHELLS: dict[str, Callable[[Commands], str]] = {"bash": bash, "fish": fish, "zsh": zsh}


def _alike(commands: Commands) -> list[tuple[list[str], Words]]:
    """Names of commands whose lines may hold the same, and what that is."""
    found: list[tuple[list[str], Words]] = []
    for name, of in commands.items():
        plain = Words("", of.options, of.words, of.leaves, of.keys, of.paths)
        for names, same in found:
            if same == plain:
                names.append(name)
                break
        else:
            found.append(([name], plain))
    return found


def _leaves(commands: Commands) -> dict[str, Iterable[str]]:
    """Group -> leaves, of all commands."""
    return {group: v for of in commands.values() for group, v in (of.leaves or {}).items()}


def _filled(script: str, **parts: str) -> str:
    for name, text in parts.items():
        script = script.replace(f"@{name}@", text)
    return script


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
