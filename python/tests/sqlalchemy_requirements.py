"""What Lacus has of what the tests of SQLAlchemy ask for. What is closed isn't there, for the reason that stands before it."""

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

OPEN = """
    aggregate_order_by array_type autocommit binary_literals boolean_col_expressions create_or_replace_view create_table_as
    create_temp_table_as ctes ctes_with_values date_coerces_from_datetime date_historic datetime_historic datetime_interval
    datetime_literals datetime_timezone datetime_timezone_historic default_schema_name_switch except_ fetch_expression fetch_first
    fetch_no_order_by float_or_double_precision_behaves_generically has_temp_table implicit_default_schema infinity_floats intersect
    isolation_level mod_operator_as_percent_sign nullsordering order_by_label_with_expression percent_schema_names
    precision_numerics_enotation_small precision_numerics_many_significant_digits precision_numerics_retains_significant_digits
    regexp_match regexp_replace schema_create_delete skip_autocommit_rollback supports_bitwise_and supports_bitwise_not
    supports_bitwise_or supports_bitwise_shift supports_bitwise_xor supports_distinct_on table_ddl_if_exists table_value_constructor
    temp_table_names timestamp_microseconds timestamp_microseconds_implicit_bound tuple_in unicode_ddl views window_functions
    window_range window_range_non_numeric window_range_numeric
"""
CLOSED = {
    "keys of tables that are made are neither kept nor checked; those of datasets, which are reflected, stand in the lake file": """
        cross_schema_fk_reflection fk_constraint_option_reflection_ondelete_noaction fk_constraint_option_reflection_ondelete_restrict
        fk_constraint_option_reflection_onupdate_restrict foreign_key_constraint_option_reflection_ondelete
        foreign_key_constraint_option_reflection_onupdate foreign_key_constraint_reflection foreign_keys
        primary_key_constraint_reflection reflects_pk_names repeated_column_foreign_keys repeated_remote_col_foreign_keys
        unique_constraint_reflection
    """,
    "there are no checks": """
        check_constraint_reflection inline_check_constraint_reflection
    """,
    "there are no indexes": """
        foreign_keys_reflect_as_index index_reflection index_reflects_included_columns indexes_check_column_order indexes_with_ascdesc
        indexes_with_expressions reflect_indexes_with_ascdesc reflect_indexes_with_ascdesc_as_expression
        reflect_indexes_with_expressions temp_table_reflect_indexes unique_constraints_reflect_as_index
        unique_index_reflect_as_unique_constraints
    """,
    "SQL can't comment on a table or a column; the lake file does": """
        comment_reflection comment_reflection_full_unicode constraint_comment_reflection temp_table_comment_reflection
    """,
    "nothing numbers the rows of a table": """
        autoincrement_insert autoincrement_without_sequence identity_columns identity_columns_standard
    """,
    "DEFAULT and GENERATED are refused": """
        computed_columns computed_columns_default_persisted computed_columns_reflect_persisted computed_columns_stored
        computed_columns_virtual expression_server_defaults server_defaults
    """,
    "there is no RETURNING": """
        insert_executemany_returning insert_returning
    """,
    "FETCH is a number of rows alone": """
        fetch_offset_with_options fetch_percent fetch_ties
    """,
    "there is no type for JSON": """
        json_array_indexes json_deserializer_binary json_type legacy_unconditional_json_extract
    """,
    "there is no type for UUIDs: Uuid is a text": """
        uuid_data_type
    """,
    "a text is a text: NVARCHAR is another word for VARCHAR, and there are no collations": """
        column_collation_reflection nvarchar_types order_by_collation
    """,
    "a time of day has no time zone": """
        time_timezone
    """,
    "views are neither kept nor temporary: they last as long as the server": """
        materialized_views materialized_views_reflect_pk temporary_views
    """,
    "tables have columns, and no options": """
        reflect_table_options reflect_tables_no_columns
    """,
    "names keep their letters": """
        denormalized_names
    """,
    "each cursor is one that streams, not another kind": """
        server_side_cursors
    """,
}


def always(rule: exclusions.compound) -> property:
    """A requirement that is answered so."""
    return property(lambda self: rule)


class Requirements(SuiteRequirements):
    """The requirements of the tests: those below, and SQLAlchemy's own answers for all others."""


for name in OPEN.split():
    setattr(Requirements, name, always(exclusions.open()))
for reason, names in CLOSED.items():
    for name in names.split():
        setattr(Requirements, name, always(exclusions.skip_if(lambda: True, reason)))
