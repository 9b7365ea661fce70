"""The controller quorum's protocol (KRaft), pure: events in, one `Ready` out per drain."""
