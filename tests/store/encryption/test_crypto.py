import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.encryption.crypto import HEADER_SIZE, KEY_SIZE, AssociatedData, DecryptionError, KeyRing, Vault, new_key

ONE, OTHER = os.urandom(KEY_SIZE), os.urandom(KEY_SIZE)
RING = KeyRing([ONE])

plaintexts = st.binary(max_size=200)
any_data = st.text(st.characters(codec="utf-8"), max_size=40)


@given(plaintexts, any_data)
def test_a_ciphertext_decrypts_with_its_associated_data(plaintext: bytes, associated_data: str) -> None:
    assert RING.decrypt(RING.encrypt(plaintext, associated_data), associated_data) == plaintext


@given(plaintexts, any_data, st.data())
def test_a_flipped_bit_anywhere_does_not_decrypt(plaintext: bytes, associated_data: str, data: st.DataObject) -> None:
    sealed = bytearray(RING.encrypt(plaintext, associated_data))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecryptionError):
        RING.decrypt(bytes(sealed), associated_data)


@given(plaintexts, st.integers(0, 240))
def test_a_cut_ciphertext_does_not_decrypt(plaintext: bytes, length: int) -> None:
    sealed = RING.encrypt(plaintext, "project:api_key:1")
    with pytest.raises(DecryptionError):
        RING.decrypt(sealed[: min(length, len(sealed) - 1)], "project:api_key:1")


@given(plaintexts, any_data, any_data)
def test_a_ciphertext_does_not_decrypt_with_other_associated_data(
    plaintext: bytes, associated_data: str, other: str
) -> None:
    sealed = RING.encrypt(plaintext, associated_data)
    if associated_data != other:
        with pytest.raises(DecryptionError):
            RING.decrypt(sealed, other)


@given(plaintexts)
def test_a_foreign_key_does_not_decrypt(plaintext: bytes) -> None:
    with pytest.raises(DecryptionError):
        KeyRing([OTHER]).decrypt(RING.encrypt(plaintext, "project:api_key:1"), "project:api_key:1")


@given(st.binary(max_size=100))
def test_noise_does_not_decrypt(noise: bytes) -> None:
    with pytest.raises(DecryptionError):
        RING.decrypt(noise, "project:api_key:1")


def test_the_first_key_encrypts_and_each_decrypts() -> None:
    both = KeyRing([OTHER, ONE])
    assert both.decrypt(RING.encrypt(b"old", "p"), "p") == b"old"
    assert KeyRing([OTHER]).decrypt(both.encrypt(b"new", "p"), "p") == b"new"
    with pytest.raises(DecryptionError):
        RING.decrypt(both.encrypt(b"new", "p"), "p")


def test_the_same_text_is_never_encrypted_alike() -> None:
    assert len({RING.encrypt(b"same", "p") for _ in range(1000)}) == 1000


def test_a_new_key_is_random_and_can_be_parsed() -> None:
    one, other = new_key(), new_key()
    assert one != other
    assert KeyRing.parse(f"{one}, {other}").decrypt(KeyRing.parse(other).encrypt(b"x", "p"), "p") == b"x"


@given(st.text(max_size=60))
def test_any_text_parses_as_a_ring_or_raises_value_error(text: str) -> None:
    try:
        ring = KeyRing.parse(text)
    except ValueError:
        return
    assert ring.decrypt(ring.encrypt(b"x", "p"), "p") == b"x"


def test_a_lookup_depends_on_value_and_key_and_contains_neither() -> None:
    value = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"
    vault = Vault(RING, ONE)
    assert vault.lookup(value) == vault.lookup(value)
    assert len({vault.lookup(value), vault.lookup(value.upper()), Vault(RING, OTHER).lookup(value)}) == 3
    assert value not in vault.lookup(value)


def test_a_key_decrypts_for_its_project_alone_and_not_as_a_token() -> None:
    vault = Vault(RING, ONE)
    sealed = vault.seal_api_key("p1", "sk-secret")
    assert vault.open_api_key("p1", sealed) == "sk-secret"
    with pytest.raises(DecryptionError):
        vault.open_api_key("p2", sealed)
    with pytest.raises(DecryptionError):
        vault.open_token("p1", sealed)
    assert vault.open_token("t1", vault.seal_token("t1", "value")) == "value"


def test_a_resealed_ciphertext_needs_the_first_key_alone_and_the_same_associated_data() -> None:
    old, both, new = Vault(RING, ONE), Vault(KeyRing([OTHER, ONE]), ONE), Vault(KeyRing([OTHER]), ONE)
    sealed = both.reseal(AssociatedData.TOKEN, "t1", old.seal_token("t1", "value"))
    assert new.open_token("t1", sealed) == "value"
    with pytest.raises(DecryptionError):
        old.open_token("t1", sealed)
    with pytest.raises(DecryptionError):
        both.reseal(AssociatedData.TOKEN, "t2", sealed)
    with pytest.raises(DecryptionError):
        new.reseal(AssociatedData.TOKEN, "t1", old.seal_token("t1", "value"))


def test_a_ciphertext_begins_with_the_header_of_its_key() -> None:
    both = KeyRing([OTHER, ONE])
    assert both.encrypt(b"x", "p").startswith(both.first_header)
    assert both.first_header == KeyRing([OTHER]).first_header != RING.first_header
    assert len(both.first_header) == HEADER_SIZE


def test_a_ring_knows_whether_it_has_other_keys() -> None:
    assert KeyRing([OTHER, ONE]).has_others
    assert not KeyRing([ONE]).has_others
    assert not KeyRing([ONE, ONE]).has_others
