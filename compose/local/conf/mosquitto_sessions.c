/* A plugin of Mosquitto 2.0: a session belongs to the account that made it.
 *
 * Mosquitto gives a session to whoever connects with its client id. Here the id of every client is preceded by its
 * account and a colon, which no account has in its name; so any id connects, and only its own account meets it.
 * Sluice's own account is left out (plugin_opt_service): the ids of its sessions have no colon.
 *
 * On SIGHUP Mosquitto checks everybody's password again. It keeps no password of a session that it has read from
 * its disk, and would then let messages for that session go. A session that is not connected passes here instead.
 *
 * The interface lacks both, so the beginning of Mosquitto's own record of a client is used, and only when what the
 * interface does tell is found there; otherwise nobody is let in. No header is needed.
 */

enum { BASIC_AUTH = 3, SUCCESS = 0, NO_MEMORY = 1, DENIED = 11, NOT_MINE = 17, LOG_ERROR = 8, CLOSED = -1 };

struct client {
	int kind;
	int socket;
	unsigned int maximum_packet_size;
	void *lookup;
	int protocol;
	char *address;
	char *id;
	char *username;
};

struct login {
	void *future;
	struct client *client;
	char *username;
	char *password;
};

struct option {
	char *key;
	char *value;
};

extern unsigned long strlen(const char *);
extern int strcmp(const char *, const char *);
extern int strncmp(const char *, const char *, unsigned long);
extern void *memcpy(void *, const void *, unsigned long);

extern const char *mosquitto_client_id(const struct client *);
extern const char *mosquitto_client_username(const struct client *);
extern const char *mosquitto_client_address(const struct client *);
extern void *mosquitto_malloc(unsigned long);
extern void mosquitto_free(void *);
extern void mosquitto_log_printf(int, const char *, ...);
extern int mosquitto_callback_register(void *, int, int (*)(int, void *, void *), const void *, void *);

static const char *service = "";

static int is_known(const struct client *client)
{
	return client->id == mosquitto_client_id(client) && client->username == mosquitto_client_username(client) &&
	       client->address == mosquitto_client_address(client);
}

static int give_account(struct client *client)
{
	unsigned long account = strlen(client->username), rest = strlen(client->id);
	char *id;

	if (!strncmp(client->id, client->username, account) && client->id[account] == ':')
		return NOT_MINE;
	id = mosquitto_malloc(account + 1 + rest + 1);
	if (!id)
		return NO_MEMORY;
	memcpy(id, client->username, account);
	id[account] = ':';
	memcpy(id + account + 1, client->id, rest + 1);
	mosquitto_free(client->id);
	client->id = id;
	return NOT_MINE;
}

static int on_login(int event, void *data, void *unused)
{
	struct client *client = ((struct login *)data)->client;

	(void)event;
	(void)unused;
	if (!is_known(client)) {
		mosquitto_log_printf(LOG_ERROR, "Sluice's plugin does not know this version of Mosquitto: nobody is let in");
		return DENIED;
	}
	if (client->socket == CLOSED)
		return SUCCESS;
	if (!client->id || !client->username)
		return NOT_MINE;
	return strcmp(client->username, service) ? give_account(client) : NOT_MINE;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	while (count--)
		if (versions[count] == 5)
			return 5;
	return -1;
}

int mosquitto_plugin_init(void *plugin, void **data, struct option *options, int count)
{
	(void)data;
	for (; count--; options++)
		if (!strcmp(options->key, "service"))
			service = options->value;
	return mosquitto_callback_register(plugin, BASIC_AUTH, on_login, 0, 0);
}

int mosquitto_plugin_cleanup(void *data, struct option *options, int count)
{
	(void)data;
	(void)options;
	(void)count;
	return SUCCESS;
}
