"""Calls that the clients make only with the backend "cloud", as users of the retired Cloud do."""

from __future__ import annotations

import uuid

import prefect
from client_helpers import ask, client, new_run


def cloud_secrets():
    """Secrets were Cloud's alone; the embedded server has them too."""
    client.set_secret("PEERS_SET", {"a": [1]})
    with prefect.context(secrets={}):
        assert prefect.client.Secret("PEERS_SET").get() == {"a": [1]}
        try:
            prefect.client.Secret("PEERS_NOT_SET").get()
        except (KeyError, ValueError):
            pass
        else:
            raise AssertionError("a secret that was never set has a value")


def cloud_tag_limits():
    tag = "tag-{}".format(uuid.uuid4())
    assert client.get_task_tag_limit(tag) is None
    client.update_task_tag_limit(tag, 3)
    client.update_task_tag_limit(tag, 2)
    assert client.get_task_tag_limit(tag) == 2
    (found,) = ask('query { task_tag_limit(where: {tag: {_eq: "%s"}}) { id } }' % tag)["task_tag_limit"]
    client.delete_task_tag_limit(found["id"])
    assert client.get_task_tag_limit(tag) is None


def cloud_key_value():
    from prefect.backend import delete_key, get_key_value, list_keys, set_key_value

    key = "key-{}".format(uuid.uuid4())
    made = set_key_value(key, {"a": 1})
    assert set_key_value(key, [2]) == made
    assert get_key_value(key) == [2] and key in list_keys()
    assert delete_key(key)
    try:
        get_key_value(key)
    except ValueError:
        return
    raise AssertionError("a key that was deleted has a value")


def cloud_registration():
    run = new_run()
    assert client.get_flow_run_info(run).state.is_scheduled()
