"""Names that vulture cannot see a use of, each with who uses it. Nothing is listed here because it might be needed one day."""

from typing import Any


def allowed(_: Any) -> tuple[Any, ...]:
    """Read by vulture only."""
    return (
        # Called by Python itself.
        _.__getattr__,
        _.unraisablehook,
        # Commands and groups that click finds by their decorators.
        *(
            _.ls,
            _.cat,
            _.rm,
            _.mv,
            _.grant,
            _.list_roles,
            _.list_keys,
            _.list_orgs,
            _.list_messages,
            _.gc,
            _.login,
            _.logout,
            _.umount,
        ),
        *(_.list_commands, _.get_command, _.COMMANDS),
        # Figures and records that are written out whole, by dataclasses.asdict or as JSON.
        *(_.memory_blocks, _.disk_blocks, _.hits, _.disk_hits, _.misses, _.unsynced_bytes, _.drafts_sealed, _.base_bytes),
        *(_.rate_bytes, _.left_s, _.bytes_moved, _.sent_blocks),
        # Called or read by pyfuse3, and set for it (struct stat, struct statvfs).
        *(_.supports_dot_lookup, _.enable_writeback_cache, _.enable_acl, _.mknod, _.rdev, _.new_parent_inode),
        *(_.entry_timeout, _.attr_timeout, _.st_rdev, _.st_blksize, _.st_blocks),
        *(_.f_bsize, _.f_blocks, _.f_bfree, _.f_files, _.f_favail, _.f_ffree, _.f_namemax),
        # Called or read by watchdog, http.server, grpc, sqlite3 and os.
        *(_.on_any_event, _.daemon_threads, _.address_family, _.handle_error, _.client_address, _.server_version),
        *(_.sys_version, _.protocol_version, _.do_GET, _.log_message, _.add_registered_method_handlers, _.isolation_level),
        *(_.trace, _.follow_symlinks, _.ns, _.about),
        # Figures of the Hub's store that tests read, and the table of gRPC's codes.
        *(_.blocks_damaged, _.pack_bytes, _.uploads, _.ABORTED),
        # pytest.
        *(_.pytestmark,),
        # Set on objects of RE2's and uvicorn's, and on a message.
        *(_.log_errors, _.should_exit, _.transactionError, _.connection_made, _.data_received, _.connection_lost),
        # Rooms that wait for their users: archives of blocks (CAR), IPNS names. Of mail, what only programs ask for.
        *(_.READ,),
        *(_.EMPTY_ROOT, _.car_write, _.car_read, _.RECORD_LIFETIME_NS, _.name_of_key, _.name_text, _.peer_id_text),
        *(_.name_from_text, _.routing_key, _.private_key_protobuf, _.seed_of_private_key, _.make_record, _.verify_record),
    )
