# watch.sh UNIT LOGS SECONDS: waits until stack.sh has ended or so many seconds have passed. Prints its state (running, done,
# failed, timeout), the last line of its summary, and where it failed the end of its log.
unit=$1 logs=$2 seconds=$3
last() {
    # The summary has lines such as `2026-11-21 13:00:00.000 | Starting Keystone`.
    sed -n 's/^[0-9-]* [0-9:.]* | *//p' "$logs/stack.sh.log.summary" 2>/dev/null | sed '/^$/d' | tail -n 1
}
begun=$(last) waited=0
while [ "$waited" -lt "$seconds" ]; do
    state=$(systemctl show --property=SubState --value "$unit")
    [ "$state" = running ] || [ "$state" = start ] || break
    [ "$(last)" = "$begun" ] || break
    sleep 2
    waited=$((waited + 2))
done
result=$(systemctl show --property=Result --value "$unit")
case $(systemctl show --property=SubState --value "$unit") in
    running | start) echo running ;;
    exited) echo done ;;
    *) if [ "$result" = timeout ]; then echo timeout; else echo failed; fi ;;
esac
step=$(last)
echo "${step:-begins}"
case $(systemctl show --property=SubState --value "$unit") in
    running | start | exited) ;;
    *) tail -n 40 "$logs/stack.sh.log" 2>/dev/null || tail -n 40 "$logs/stack.out" 2>/dev/null || echo 'it left no log' ;;
esac
