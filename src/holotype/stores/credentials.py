"""How each kind of store is reached, with the credentials that its own tools take: they stay in memory.

obstore itself reads the environment and asks instances, containers and identity providers for roles. What is added is
what it does not read: profiles in `~/.aws`, and the names that the tools of Azure and Google give to some variables.
"""

import configparser
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from holotype.errors import PoolError

_KEYS = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key"}
_KEYS |= {"aws_session_token": "session_token", "region": "region"}
_ROLES = [  # where one of these is set, profiles do not count
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
]
_BY_BOTO = ("role_arn", "sso_session", "sso_start_url", "credential_process", "source_profile", "login_session")
_CONNECT, _READ, _WHOLE = "10s", "30s", "600s"  # to connect, to wait for the next bytes, for a whole request


def open_bucket(scheme: str, bucket: str) -> Any:
    """Return obstore's store of a bucket. Raises `PoolError` where obstore, or what it needs, is not installed."""
    try:
        from obstore import store
    except ImportError:
        raise PoolError(
            f"{scheme}:// needs the package obstore, which is not installed: pip install 'holotype[stores]'"
        ) from None
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
    options = {"s3": _of_s3, "gs": _of_google, "az": _of_azure}[scheme]()
    endpoint = str(options.get("endpoint") or options.get("base_url") or "")
    client: dict[str, Any] = {"connect_timeout": _CONNECT, "read_timeout": _READ, "timeout": _WHOLE}
    client["allow_http"] = endpoint.startswith("http://")
    try:
        return kind(bucket, client_options=client, retry_config={"max_retries": 0}, **options)
    except Exception:  # what it says may repeat what it was given
        account = ", and give AZURE_STORAGE_ACCOUNT" if scheme == "az" and "account_name" not in options else ""
        raise PoolError(
            f"the settings of {scheme}:// in the environment, or in the files of its tools, cannot be used; check them"
            f"{account}"
        ) from None


def _of_s3() -> dict[str, Any]:
    profile = _profile()
    found: dict[str, Any] = {}
    if not any(os.environ.get(name) for name in _ROLES):
        found = {ours: profile[theirs] for theirs, ours in _KEYS.items() if theirs in profile}
        if "access_key_id" not in found and any(name in profile for name in _BY_BOTO):
            found["credential_provider"] = _by_boto()
    if os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        found.pop("region", None)
    elif "region" in profile:
        found["region"] = profile["region"]
    endpoint = _first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") or profile.get("endpoint_url", "")
    return found | ({"endpoint": endpoint} if endpoint else {})


def _by_boto() -> Any:
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise PoolError(
            "this profile of AWS asks another service for its credentials, which needs the package boto3: pip install "
            "boto3; or give them with the environment (aws configure export-credentials --format env)"
        ) from None
    return Boto3CredentialProvider()


def _profile() -> Mapping[str, str]:
    """What `~/.aws` says of the profile in use, as the tools of AWS read it."""
    name = _first("AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    places = ("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    found: dict[str, str] = {}
    for variable, usual in places:
        parser = configparser.RawConfigParser()
        with suppress(OSError, RuntimeError, UnicodeError, configparser.Error):
            parser.read_string(Path(os.environ.get(variable) or f"~/.aws/{usual}").expanduser().read_text())
        section = f"profile {name}" if usual == "config" and name != "default" else name
        if parser.has_section(section):
            found |= dict(parser.items(section))
    if not found and name != "default" and not any(os.environ.get(one) for one in _ROLES):
        raise PoolError(f"there is no profile {name} in ~/.aws, which AWS_PROFILE names; check its name")
    return found


def _of_google() -> dict[str, Any]:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")  # as Google's own libraries have it
    if not emulator:
        return {}
    return {"base_url": emulator if "://" in emulator else f"http://{emulator}", "skip_signature": True}


def _of_azure() -> dict[str, Any]:
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    found = {
        "account_name": _first("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME") or parts.get("AccountName"),
        "account_key": _first("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY") or parts.get("AccountKey"),
        "sas_key": _first("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY") or parts.get("SharedAccessSignature"),
        "endpoint": _first("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT") or parts.get("BlobEndpoint"),
    }
    return {name: value for name, value in found.items() if value}


def _first(*names: str) -> str:
    """The first of some variables of the environment that says something."""
    return next((value for name in names if (value := os.environ.get(name, ""))), "")
