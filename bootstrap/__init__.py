"""What dev.py is made of; standard library only. The pack itself never imports it."""
