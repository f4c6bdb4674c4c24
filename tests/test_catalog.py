from vlmcli.models import catalog, names


def test_no_two_rows_share_an_alias_or_a_name():
    aliases = [alias for row in catalog.MODELS for alias in row.aliases]
    hub_names = [row.name for row in catalog.MODELS]
    assert len(set(aliases)) == len(aliases) and len(set(hub_names)) == len(hub_names)
    assert not {names.AUTO, names.BUILTIN} & set(aliases)


def test_the_recommended_download_asks_for_no_licence_click():
    assert catalog.RECOMMENDED in catalog.MODELS and not catalog.RECOMMENDED.gated
