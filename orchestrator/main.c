#include "cli/cli.h"
#include "cli/hidden.h"

int main(int argc, char **argv)
{
	int hidden = hidden_main(argc, argv);

	return hidden >= 0 ? hidden : cli_main(argc, argv);
}
