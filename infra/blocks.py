"""Prefect blocks for `calig deploy --notify`, made from the environment: the server keeps them encrypted.

CALIG_WEBHOOK_URL   custom-webhook/calig        gets {"subject": …, "text": …} by POST
CALIG_SLACK_URL     slack-webhook/calig-slack   an incoming webhook of Slack
CALIG_MAIL_URL      slack-webhook/calig-mail    mailtos://user:password@smtp.example.com?from=…&to=…

The last is no slip: that block hands any address of Apprise on, and mail by SMTP has no block of its own in Prefect.
"""

import os

from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook


def main() -> None:
    """Make the blocks whose variables are set, or bring them up to date, and print what --notify takes."""
    made = []
    if url := os.environ.get("CALIG_WEBHOOK_URL"):
        block = CustomWebhookNotificationBlock(
            name="calig",
            url="{{url}}",
            json_data={"subject": "{{subject}}", "text": "{{body}}"},
            secrets={"url": url},
        )
        block.save("calig", overwrite=True)
        made.append("custom-webhook/calig")
    for variable, name in (("CALIG_SLACK_URL", "calig-slack"), ("CALIG_MAIL_URL", "calig-mail")):
        if url := os.environ.get(variable):
            SlackWebhook(url=url).save(name, overwrite=True)
            made.append(f"slack-webhook/{name}")
    print("\n".join(made) or "nothing to make: set CALIG_WEBHOOK_URL, CALIG_SLACK_URL or CALIG_MAIL_URL")


if __name__ == "__main__":
    main()
