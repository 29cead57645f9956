# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329 # facts.sh and apply.sh, which follow, call these
# The broker on its host: functions for facts.sh and apply.sh, which set `account` and `vhost`. In a server that others
# use too, `guest` is the others' affair.
broker_names() { # NAME
    guest='lists:member(<<"guest">>, Users)'
    # An earlier version had the names `site` and / but there.
    if [ "$account" = site ] && [ -e "/etc/rabbitmq/conf.d/$1.conf" ]; then account=$1 vhost=$1; fi
    if [ -e "/etc/rabbitmq/conf.d/$1.conf" ] || [ -e /etc/rabbitmq/conf.d/portico.conf ]; then guest=false; fi
}

# Evaluate an Erlang expression from standard input in the server. With any other argument (`--quiet`), rabbitmqctl does
# not read standard input.
broker_eval() {
    timeout 60 rabbitmqctl eval 2>/dev/null
}

# Print what is missing: server, user, password, permissions; guest if that user still exists.
broker_missing() {
    broker_names "$1"
    password=$(head -n 1 "/etc/$1/broker_password" 2>/dev/null || true)
    # If the server does not run, rabbitmqctl would start an epmd, which conflicts with the one that systemd starts.
    # One expression for everything: a start of Erlang takes a second or two.
    if ! systemctl -q is-active rabbitmq-server || ! found=$(
        broker_eval <<ERLANG
Users = [proplists:get_value(user, User) || User <- rabbit_auth_backend_internal:list_users()],
Site = lists:member(<<"$account">>, Users),
Right = Site andalso element(1, rabbit_access_control:check_user_pass_login(<<"$account">>, <<"$password">>)) =:= ok,
Rights = Site andalso rabbit_auth_backend_internal:list_user_permissions(<<"$account">>) =/= [],
[Word || {Word, true} <- [
    {user, not Site}, {password, not Right}, {permissions, not Rights}, {guest, $guest}
]].
ERLANG
    ); then
        echo "server user password permissions"
        return
    fi
    echo "$found" | tr -c 'a-z\n' ' '
}

broker_make() {
    broker_names "$1"
    file=/etc/$1/broker_password
    password=$(head -n 1 "$file" 2>/dev/null || true)
    if [ -z "$password" ]; then
        password=$(od -A n -N 24 -t x1 /dev/urandom | tr -d ' \n')
        printf '%s\n' "$password" >"$file.new"
        mv "$file.new" "$file"
    fi
    broker_eval >/dev/null <<ERLANG
Users = [proplists:get_value(user, User) || User <- rabbit_auth_backend_internal:list_users()],
case rabbit_vhost:exists(<<"$vhost">>) of
    true -> ok;
    false -> ok = rabbit_vhost:add(<<"$vhost">>, <<"setup">>)
end,
case lists:member(<<"$account">>, Users) of
    true -> ok = rabbit_auth_backend_internal:change_password(<<"$account">>, <<"$password">>, <<"setup">>);
    false -> ok = rabbit_auth_backend_internal:add_user(<<"$account">>, <<"$password">>, <<"setup">>)
end,
ok = rabbit_auth_backend_internal:set_permissions(<<"$account">>, <<"$vhost">>, <<".*">>, <<".*">>, <<".*">>, <<"setup">>),
case $guest of
    true -> ok = rabbit_auth_backend_internal:delete_user(<<"guest">>, <<"setup">>);
    false -> ok
end.
ERLANG
}

# Remove the user, also a second one of a rotation, and the vhost with all messages; never the vhost /, which is not the
# site's alone.
broker_remove() { # all|user
    vhost_gone=false
    if [ "$1" = all ] && [ "$vhost" != / ]; then vhost_gone=true; fi
    broker_eval >/dev/null <<ERLANG
Users = [proplists:get_value(user, User) || User <- rabbit_auth_backend_internal:list_users()],
[ok = rabbit_auth_backend_internal:delete_user(User, <<"setup">>) ||
    User <- [<<"$account">>, <<"$account.next">>], lists:member(User, Users)],
case $vhost_gone andalso rabbit_vhost:exists(<<"$vhost">>) of
    true -> rabbit_vhost:delete(<<"$vhost">>, <<"setup">>), false = rabbit_vhost:exists(<<"$vhost">>);
    false -> ok
end.
ERLANG
}
