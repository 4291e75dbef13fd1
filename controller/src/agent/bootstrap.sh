# Finds the agent by its digest or takes it from stdin, then becomes it. Sent as one line: without the
# comments, lines joined by blanks. So each statement ends with `;` where a shell wants one, and there
# are no single quotes, for the whole is between two, and no `!` before a word, which is history to csh.
#
# Takes: digest and size of the x86-64 agent, digest and size of the aarch64 one, how to become root,
# by which program, whether a password may come, and the first op, if it is short.

m=$(uname -m);
case $m in
    x86_64|amd64) h=$1; n=$2;;
    aarch64|arm64) h=$3; n=$4;;
    *) h=none;;
esac;
case $h in none) echo "PCOV1 ERR there is no agent for $m"; exit 73;; esac;
w=$5; y=$6; q=$7; z=$8;
u=$(id -u);
umask 077;

# SHA-256 of stdin, by whatever can tell it.
s() { { sha256sum || shasum -a 256 || openssl dgst -sha256 -r || busybox sha256sum; } 2>/dev/null; };
# Whether a file is the agent.
k() { [ -f "$1" ] && c=$(s <"$1") && [ "${c%% *}" = "$h" ]; };
# The same for what has just arrived: where nothing can tell a digest, the size must do.
v() { k "$1" || { [ -z "$(s </dev/null)" ] && [ "$(wc -c <"$1")" -eq "$n" ]; }; };
# Our folder in a place, the agent in it, and a temporary file. Places are not made: they would stay behind.
p() { d=$1/.pulpcov-$u; a=$d/$h; t=$d/t$$; };
# Whether that folder is ours alone.
o() { [ -O "$d" ] && [ ! -L "$d" ]; };
# Whether programs run there: noexec forbids it.
x() {
    { printf "#\041/bin/sh\n" >"$t" && chmod 700 "$t" && "$t"; } 2>/dev/null;
    r=$?; rm -f "$t"; return $r;
};

# Takes the agent from stdin into memory, and becomes it: no more is read than what the agent has.
M="import os,sys,hashlib;h,n=sys.argv[1],int(sys.argv[2]);f=os.memfd_create(\"pulpcov-agent\",0);";
M="$M b=iter(lambda:os.read(0,min(65536,n-os.fstat(f).st_size)),b\"\"); d=hashlib.sha256();";
M="$M [(d.update(c),os.write(f,c)) for c in b];";
M="$M k=d.hexdigest()==h or sys.exit(print(\"PCOV1 ERR the agent did not arrive whole in memory\"));";
M="$M os.environ[\"LC_ALL\"]=\"C\"; os.write(1,b\"PCOV1 RUN\\n\");";
M="$M os.execv(\"/proc/self/fd/%d\"%f,[\"pulpcov-agent\"]+sys.argv[3:])";

set -- "${TMPDIR:-/tmp}" "${XDG_RUNTIME_DIR:-/tmp}" "${HOME:-/tmp}/.cache" /var/tmp "${HOME:-/tmp}" /run /dev/shm;
f=;
for b; do
    p "$b"; if o && k "$a"; then f=1; break; fi;
done;
if [ -z "$f" ]; then
    for b; do
        # Another of us may make it at the same moment; only who made it may remove it.
        p "$b"; g=:; [ -d "$d" ] || { mkdir "$d" 2>/dev/null && g=rmdir; };
        if [ -d "$d" ] && o && x; then f=1; break; fi;
        $g "$d" 2>/dev/null;
    done;
    if [ -z "$f" ]; then
        # Only memory is left, as in a container with nothing of its own: its Python runs the agent from there.
        for i in python3 python /usr/bin/python3 /usr/local/bin/python3 /usr/libexec/platform-python; do
            if [ none = "$w" ] && "$i" -c "import os; os.memfd_create" 2>/dev/null; then
                echo "PCOV1 NEED $m";
                exec "$i" -c "$M" "$h" "$n" serve $z;
            fi;
        done;
        echo "PCOV1 ERR none of these folders takes a program and runs it: $*"; exit 71;
    fi;
    echo "PCOV1 NEED $m";
    trap "rm -f \"$t\"" 0;
    head -c "$n" >"$t" && v "$t" && chmod 700 "$t" && mv -f "$t" "$a" ||
        { echo "PCOV1 ERR the agent did not arrive whole in $d"; exit 72; };
    trap - 0;
fi;

# So that what they say is understood.
LC_ALL=C; export LC_ALL;
echo "PCOV1 RUN";
case $w$q in
    none*) exec "$a" serve $z;;
    sudonopw) exec "$y" -n "$a" serve $z;;
    sudo*) exec "$y" -S -p PCOV1-ASK: "$a" serve $z;;
    doas*) exec "$y" -n "$a" serve $z;;
    su*) exec "$y" -s /bin/sh -c "exec \"\$0\" serve $z" root "$a";;
esac
